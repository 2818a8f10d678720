"""JPEG 2000 tiles decoded directly are OpenSlide's, pixel by pixel, damaged ones too."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from support.jpeg_slides import place_of_tile, rewrite

from xt_backend.errors import RegionReadError
from xt_backend.slides import open_slide
from xt_backend.slides.reading import READER_VARIABLE

from .slide_makers import texture

SIDE = 128
WIDTH, HEIGHT = 700, 520
N_COLS = -(-WIDTH // SIDE)


@pytest.fixture
def slide_path(tmp_path: Path) -> Path:
    return write(tmp_path / "jp2k.svs")


def write(path: Path, compression: int = 33005, **options: Any) -> Path:
    """An Aperio file whose tiles are JPEG 2000."""
    image = texture(WIDTH, HEIGHT, 0)
    padded = np.pad(image, [(0, -HEIGHT % SIDE), (0, -WIDTH % SIDE), (0, 0)], mode="edge")
    coded = [
        imagecodecs.jpeg2k_encode(
            np.ascontiguousarray(padded[top : top + SIDE, left : left + SIDE]),
            level=60,
            codecformat="j2k",
            **options,
        )
        for top in range(0, padded.shape[0], SIDE)
        for left in range(0, padded.shape[1], SIDE)
    ]
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(
            iter(coded),
            shape=image.shape,
            dtype=np.uint8,
            tile=(SIDE, SIDE),
            photometric="rgb",
            compression=compression,
            description=f"Aperio Image Library v11\n{WIDTH}x{HEIGHT}|MPP = 0.25",
            metadata=None,
        )
    return path


def read_both(path: Path, place: tuple[int, int, int, int]) -> tuple[Any, Any]:
    """What the package reads, and what OpenSlide does; None where it cannot."""
    found = []
    for reader in ("auto", "openslide"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(READER_VARIABLE, reader)
            with open_slide(path) as slide:
                try:
                    found.append(slide.read_level(0, *place))
                except RegionReadError:
                    found.append(None)
    return found[0], found[1]


def test_tiles_are_decoded_directly(slide_path: Path) -> None:
    with open_slide(slide_path) as slide:
        assert slide.reading.direct_levels == (0,)
        assert "openjpeg" in slide.reading.decoder
    for place in ((0, 0, WIDTH, HEIGHT), (37, 101, 200, 300), (128, 128, 128, 128)):
        ours, theirs = read_both(slide_path, place)
        np.testing.assert_array_equal(ours, theirs)
    ours, _ = read_both(slide_path, (0, 0, WIDTH, HEIGHT))
    assert np.abs(ours.astype(int) - texture(WIDTH, HEIGHT, 0)).mean() < 3


def test_what_else_there_is_stays_with_openslide(tmp_path: Path) -> None:
    with open_slide(write(tmp_path / "ycbcr.svs", compression=33003)) as slide:
        assert slide.reading.reasons == ("its tiles are JPEG 2000 in YCbCr",)


def test_without_the_decoder_openslide_reads(
    slide_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with open_slide(slide_path) as slide:
        assert slide.reading.direct_levels == ()
        assert "imagecodecs does not load" in str(slide.reading)
        assert slide.read_level(0, 0, 0, 64, 64).any()


@pytest.mark.parametrize("kind", ["header", "flip", "zeros", "cut", "noise"])
def test_a_damaged_tile_fails_or_not_as_with_openslide(slide_path: Path, kind: str) -> None:
    rng = np.random.default_rng(3)
    whole = slide_path.read_bytes()
    changed = 0
    for _ in range(8):
        col, row = 1 + int(rng.integers(3)), 1 + int(rng.integers(2))
        offset, count = place_of_tile(slide_path, col, row)
        good = whole[offset : offset + count]
        data = bytearray(good)
        # From where the sizes end: of an image smaller than its tile OpenSlide leaves the rest as
        # it finds the memory.
        at = int(rng.integers(51, 150)) if kind == "header" else int(rng.integers(160, count - 60))
        if kind == "zeros":
            data[at : count - 2] = bytes(count - 2 - at)
        elif kind == "cut":
            data[at:] = bytes(count - at)
        elif kind == "noise":
            data[at : at + 50] = rng.bytes(50)
        else:
            data[at] ^= 1 << int(rng.integers(8))
        rewrite(slide_path, offset, bytes(data))
        place = (col * SIDE, row * SIDE, SIDE, SIDE)
        ours, theirs = read_both(slide_path, place)
        rewrite(slide_path, offset, good)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            np.testing.assert_array_equal(ours, theirs)
            changed += not np.array_equal(ours, read_both(slide_path, place)[0])
        else:
            changed += 1
    assert changed, "the test shows nothing"
