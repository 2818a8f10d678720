"""Reads from many threads, and reads after reads that failed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
from support.jpeg_slides import write_jpeg_slide

from xt_backend.errors import RegionReadError, UsageError
from xt_backend.slides import open_slide
from xt_backend.slides.handle import scrub

from .slide_makers import spoil_tile, texture, write_slide


@pytest.fixture
def damaged(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """640 x 512 px in tiles of 64 px; the tile of column 4 and row 3 cannot be decoded."""
    image = texture(640, 512)
    path = write_slide(tmp_path / "damaged.tiff", [image])
    spoil_tile(path, 4, 3)
    return path, image


def test_a_bad_place_does_not_spoil_good_ones(damaged: tuple[Path, np.ndarray]) -> None:
    path, image = damaged
    with open_slide(path) as slide:
        for _ in range(3):
            with pytest.raises(RegionReadError, match=r"level 0 at \(256, 192\) px"):
                slide.read_level(0, 256, 192, 64, 64)
            np.testing.assert_array_equal(slide.read_level(0, 0, 0, 256, 192), image[:192, :256])


def test_threads_are_not_disturbed_by_errors_of_others(damaged: tuple[Path, np.ndarray]) -> None:
    """An error latches the shared handle: the others must still get their pixels."""
    path, image = damaged
    tiles = [(col, row) for row in range(8) for col in range(10)] * 3

    def read(tile: tuple[int, int]) -> np.ndarray | None:
        col, row = tile
        try:
            return slide.read_level(0, col * 64, row * 64, 64, 64)
        except RegionReadError:
            return None

    with open_slide(path) as slide, ThreadPoolExecutor(6) as pool:
        results = list(pool.map(read, tiles))
    for (col, row), seen in zip(tiles, results, strict=True):
        if (col, row) == (4, 3):
            assert seen is None
        else:
            assert seen is not None
            expected = image[row * 64 : row * 64 + 64, col * 64 : col * 64 + 64]
            np.testing.assert_array_equal(seen, expected)


def test_an_error_that_passes_is_not_reported(
    damaged: tuple[Path, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, image = damaged
    read_region = openslide.OpenSlide.read_region
    calls = []

    def failing_once(self: openslide.OpenSlide, *args: Any) -> Any:
        calls.append(self)
        if len(calls) == 1:
            raise openslide.OpenSlideError("the network hiccuped")
        return read_region(self, *args)

    monkeypatch.setattr(openslide.OpenSlide, "read_region", failing_once)
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.read_level(0, 0, 0, 64, 64), image[:64, :64])
        slide.read_level(0, 64, 0, 64, 64)
    assert calls[1] is not calls[0], "the retry needs a handle of its own"
    assert calls[2] is calls[1], "the handle that worked takes over"


def test_after_a_bad_place_the_next_read_needs_no_second_try(
    damaged: tuple[Path, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = damaged
    read_region = openslide.OpenSlide.read_region
    calls = []

    def counted(self: openslide.OpenSlide, *args: Any) -> Any:
        calls.append(self)
        return read_region(self, *args)

    monkeypatch.setattr(openslide.OpenSlide, "read_region", counted)
    with open_slide(path) as slide:
        with pytest.raises(RegionReadError):
            slide.read_level(0, 256, 192, 64, 64)
        assert len(calls) == 2
        slide.read_level(0, 0, 0, 64, 64)
        assert len(calls) == 3


def test_a_file_that_vanishes_fails_the_place(
    damaged: tuple[Path, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = damaged
    with open_slide(path) as slide:
        path.rename(path.with_name("elsewhere.tiff"))
        for _ in range(2):
            with pytest.raises(RegionReadError):
                slide.read_level(0, 256, 192, 64, 64)
        path.with_name("elsewhere.tiff").rename(path)
        assert slide.read_level(0, 0, 0, 8, 8).shape == (8, 8, 3)


def test_closed_slides_say_so(damaged: tuple[Path, np.ndarray]) -> None:
    slide = open_slide(damaged[0])
    slide.close()
    slide.close()
    with pytest.raises(UsageError, match="closed"):
        slide.read_level(0, 0, 0, 8, 8)
    assert slide.info.width_px == 640


def test_closing_while_others_read_is_safe(damaged: tuple[Path, np.ndarray]) -> None:
    path, _ = damaged
    for _ in range(8):
        slide = open_slide(path)
        started = threading.Event()
        outcomes: list[bool] = []

        def read(
            slide: Any = slide, started: threading.Event = started, outcomes: Any = outcomes
        ) -> None:
            try:
                for row in range(60):
                    slide.read_level(0, 0, (row % 3) * 64, 256, 64)
                    started.set()
            except UsageError:
                outcomes.append(False)
            else:
                outcomes.append(True)

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert started.wait(30)
        slide.close()
        for thread in threads:
            thread.join(30)
        assert len(outcomes) == 3


def test_a_property_whose_name_is_no_text_is_left_out(tmp_path: Path) -> None:
    aperio = "Aperio Image Library v11\r\n256x256|GrXXe = 3|MPP = 0.5"
    slide = write_jpeg_slide(tmp_path / "a.svs", [texture(256, 256)], aperio=aperio)
    content = slide.read_bytes()
    assert content.count(b"GrXXe") == 1
    # As a scanner wrote it whose words are not in UTF-8.
    slide.write_bytes(content.replace(b"GrXXe", "Größe".encode("latin-1")))
    with open_slide(slide) as opened:
        assert opened.info.mpp is not None
        assert opened.info.mpp.value == 0.5
        opened.read_level(0, 0, 0, 64, 64)


def test_scrub_takes_out_folders_and_names(tmp_path: Path) -> None:
    path = tmp_path / "DOE JOHN" / "case 7.mrxs"
    said = f"Couldn't open {path.parent}/case 7/Data0001.dat: No such file."
    assert scrub(said, path) == "Couldn't open Data0001.dat: No such file"
    assert scrub(f"{path}: bad\n header", path) == "bad header"
