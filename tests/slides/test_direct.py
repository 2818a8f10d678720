"""Tiles decoded directly are OpenSlide's, pixel by pixel; what is not stays with OpenSlide."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image
from support.jpeg_slides import encode, place_of_tile, rewrite, write_coded, write_jpeg_slide

from xt_backend.errors import RegionReadError, UsageError
from xt_backend.slides import Lattice, Reader, Slide, direct, open_slide
from xt_backend.slides.jpeg_tile import JpegTiles
from xt_backend.slides.reading import READER_VARIABLE, tell_once
from xt_backend.slides.tile_memory import TileMemory

from .slide_makers import texture, write_slide

Picture = np.ndarray[Any, Any]
REAL = {
    "bcss-roi/slides/bcss_1008.svs": (0, 1, 2),
    "her2st-slides/her2st_C2.svs": (0,),
    "her2st-slides/her2st_C3.tiff": (0, 1),
    "slides-layouts/bcss_1015_crop_leica.scn": (0, 1, 2),
    "slides-layouts/bcss_1015_crop_philips.tiff": (0, 1, 2, 3, 4),
    "slides-layouts/bcss_1015_crop_subifd.ome.tiff": (0,),
    "slides-layouts/bcss_1015_crop_trestle.tif": (0, 1, 2, 3),
    "slides-vendor/aperio/CMU-1-Small-Region.svs": (0,),
    "slides-vendor/aperio/TCGA-CR-7395-01A-01-TS1.svs": (0,),
    "slides-vendor/aperio/small.svs": (0,),
}
REASONS = {
    "slides-layouts/bcss_1008_dicom": "does not know the format dicom",
    "slides-layouts/bcss_1015_crop_mirax.mrxs": "does not know the format mirax",
    "slides-layouts/bcss_1015_crop_ventana.bif": "does not know the format ventana",
    "slides-layouts/bcss_1015_crop_vms/bcss_1015.vms": "does not know the format hamamatsu",
    "slides-vendor/aperio/TCGA-CR-7395-01A-01-TS1.svs": "level 1 by OpenSlide: its downsample is",
    "slides-vendor/broken/unreadable.svs": "none of its tiles that were tried",
    "slides-vendor/generic-tiff/boxes.tiff": "its tiles are deflate",
    "slides-vendor/generic-tiff/no_dzi.tif": "its tiles are LZW",
    "her2st-slides/her2st_C2.svs": "levels 1, 2 by OpenSlide: its downsample is not a whole",
}


@pytest.fixture
def two_levels(tmp_path: Path) -> Path:
    """700 x 520 px and half of it, JPEG tiles of 64 px."""
    return write_jpeg_slide(tmp_path / "two.tiff", _levels())


def _levels(width: int = 700, height: int = 520, seed: int = 0) -> list[Picture]:
    image = texture(width, height, seed)
    return [image, np.asarray(Image.fromarray(image).reduce(2))]


def _places(slide: Slide, level: int, n: int, seed: int = 0) -> Iterator[tuple[int, int, int, int]]:
    """Places of a level: such of the size of a tile that lie across the corners of what was
    scanned, then random ones, many of them across its edges and some as large as it.
    """
    rng = np.random.default_rng(seed)
    width, height = slide.info.level_dimensions[level]
    left, top, right, lower = 0, 0, width, height
    if slide.info.has_bounds:
        step = slide.info.level_downsamples[level]
        x, y, w, h = (int(value / step) for value in slide.info.bounds_px)
        left, top, right, lower = x - 40, y - 40, x + w + 40, y + h + 40
    places = [
        (x, y, side, side)
        for side in (64, 128, 240, 256, 512)
        for x in (left + 33, right - side - 33)
        for y in (top + 33, lower - side - 33)
    ]
    for _ in range(n):
        w, h = (int(2 ** rng.uniform(0, 9.3)) for _ in range(2))
        x, y = int(rng.integers(left - w + 1, right)), int(rng.integers(top - h + 1, lower))
        places.append((x, y, w, h))
    for x, y, w, h in places:
        if x < width and y < height and x + w > 0 and y + h > 0:
            yield x, y, w, h


def _oracle(path: Path) -> Slide:
    """The slide as OpenSlide reads it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(READER_VARIABLE, "openslide")
        return open_slide(path)


def _assert_same(path: Path, n: int = 40, seed: int = 0) -> None:
    with open_slide(path) as slide, _oracle(path) as oracle:
        assert oracle.reading.direct_levels == ()
        for level in range(len(slide.info.level_dimensions)):
            for place in _places(slide, level, n, seed):
                expected = oracle.read_level(level, *place)
                np.testing.assert_array_equal(slide.read_level(level, *place), expected)
        ours, theirs = slide.thumbnail(300), oracle.thumbnail(300)
        np.testing.assert_array_equal(ours.rgb, theirs.rgb)
        np.testing.assert_array_equal(ours.valid, theirs.valid)


@pytest.mark.parametrize("name", REAL)
def test_real_slides_have_the_same_pixels(shared_data: Path, name: str) -> None:
    with open_slide(shared_data / name) as slide:
        assert slide.reading.direct_levels == REAL[name]
    _assert_same(shared_data / name)


@pytest.mark.parametrize("name", REASONS)
def test_what_is_not_decoded_directly_has_a_reason(shared_data: Path, name: str) -> None:
    with open_slide(shared_data / name) as slide:
        assert REASONS[name] in str(slide.reading)


def test_openslide_itself_gives_these_pixels(two_levels: Path) -> None:
    """Against the library, not against this package's use of it."""
    with open_slide(two_levels) as slide, openslide.OpenSlide(two_levels) as raw:
        assert slide.reading.direct_levels == (0, 1)
        for x, y, side in ((0, 0, 64), (64, 128, 64), (37, 101, 200), (500, 300, 190)):
            seen = np.asarray(raw.read_region((x, y), 0, (side, side)).convert("RGB"))
            np.testing.assert_array_equal(slide.read_level(0, x, y, side, side), seen)


@pytest.mark.parametrize(
    "form",
    [
        {"subsampling": 0},
        {"subsampling": 1},
        {"subsampling": 2},
        {"rgb": True},
        {"tables": True},
        {"rgb": True, "tables": True, "aperio": "Aperio Image Library v11\n700x520|MPP = 0.25"},
        {"progressive": True},
        {"optimize": True},
        {"restart_marker_blocks": 3},
        {"tile": 16},
        {"tile": 1024},
    ],
    ids=lambda form: "-".join(form),
)
def test_every_form_of_tile(tmp_path: Path, form: dict[str, Any]) -> None:
    path = write_jpeg_slide(tmp_path / "form.tiff", _levels(), **form)
    with open_slide(path) as slide:
        assert slide.reading.direct_levels == (0, 1)
    _assert_same(path, n=12)


def test_tiles_of_one_pixel(tmp_path: Path) -> None:
    colors = [(220, 30, 40), (30, 200, 50), (40, 60, 210), (9, 9, 9), (250, 250, 250), (99, 7, 88)]
    coded = [encode(np.full((1, 1, 3), color, np.uint8)) for color in colors]
    path = tmp_path / "one.tiff"
    with tifffile.TiffWriter(path) as tiff:
        write_coded(tiff, coded, (32, 48, 3), 16)
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tags = tiff.pages[0].tags
        for name, value in (("ImageWidth", 3), ("ImageLength", 2)):
            tags[name].overwrite(value)
        for name in ("TileWidth", "TileLength"):
            tags[name].overwrite(1)
    with open_slide(path) as slide, _oracle(path) as oracle:
        assert slide.reading.direct_levels == (0,)
        seen = slide.read_level(0, 0, 0, 3, 2)
        np.testing.assert_array_equal(seen, oracle.read_level(0, 0, 0, 3, 2))
    assert np.abs(seen.reshape(6, 3).astype(int) - colors).max() < 12


def test_missing_tiles_are_openslides(tmp_path: Path) -> None:
    """In an Aperio file it also draws coarser tiles over them anew."""
    for aperio in (None, "Aperio Image Library v11\n700x520|MPP = 0.25"):
        path = write_jpeg_slide(tmp_path / f"{bool(aperio)}.tiff", _levels(), aperio=aperio)
        with tifffile.TiffFile(path, mode="r+b") as tiff:
            for page, gone in ((tiff.pages[0], {14, 15, 40}), (tiff.pages[1], {9})):
                for tag in ("TileOffsets", "TileByteCounts"):
                    values = page.tags[tag].value
                    page.tags[tag].overwrite([0 if i in gone else v for i, v in enumerate(values)])
        with open_slide(path) as slide:
            assert slide.reading.direct_levels == ((0,) if aperio else (0, 1))
            assert ("missing in a finer level" in str(slide.reading)) == bool(aperio)
        _assert_same(path)


def test_levels_of_different_compression(tmp_path: Path) -> None:
    path = tmp_path / "mixed.tiff"
    fine, coarse = _levels()
    with tifffile.TiffWriter(path) as tiff:
        parts = [
            np.pad(part, [(0, 64 - part.shape[0]), (0, 64 - part.shape[1]), (0, 0)], mode="edge")
            for top in range(0, 520, 64)
            for left in range(0, 700, 64)
            for part in [fine[top : top + 64, left : left + 64]]
        ]
        write_coded(tiff, [encode(part) for part in parts], fine.shape, 64)
        tiff.write(
            coarse, tile=(64, 64), photometric="rgb", compression="deflate", subfiletype=1,
            metadata=None,
        )  # fmt: skip
    with open_slide(path) as slide:
        assert slide.reading.direct_levels == (0,)
        assert slide.reading.reasons[1] == "its tiles are deflate"
    _assert_same(path)


def test_a_tile_of_another_form_than_those_compared_is_left_to_openslide(
    two_levels: Path,
) -> None:
    """Its colours would be taken for others: the TIFF says YCbCr, the JPEG RGB."""
    offset, count = place_of_tile(two_levels, 3, 2)
    other = encode(np.full((64, 64, 3), (200, 30, 60), np.uint8), rgb=True)
    assert len(other) <= count
    rewrite(two_levels, offset, other)
    with open_slide(two_levels) as slide, _oracle(two_levels) as oracle:
        expected = oracle.read_level(0, 192, 128, 64, 64)
        np.testing.assert_array_equal(slide.read_level(0, 192, 128, 64, 64), expected)
        assert np.abs(expected[32, 32].astype(int) - (200, 30, 60)).max() > 40


def test_what_a_tile_begins_with_is_told_from_what_others_begin_with() -> None:
    """All of it, up to the pixels, though it is looked at once only."""
    image = texture(64, 64)
    coded = encode(image)
    tiles = JpegTiles.for_page(64, 64, "YCbCr", None)
    usual = tiles.signature(coded)
    assert usual is not None
    assert tiles.signature(encode(texture(64, 64, 3))) == usual
    scan = coded.index(b"\xff\xda")
    frame = coded.index(b"\xff\xc0")
    for at in range(scan + 2):
        data = bytearray(coded)
        data[at] ^= 0x10
        fresh = JpegTiles.for_page(64, 64, "YCbCr", None)
        assert tiles.signature(bytes(data)) == fresh.signature(bytes(data)), at
    assert tiles.signature(coded[:scan]) is None
    other = coded[: frame + 11] + b"\x11" + coded[frame + 12 :]
    assert tiles.signature(other) not in (usual, None)


@pytest.mark.parametrize("kind", ["flip", "zeros", "noise", "cut"])
def test_a_damaged_tile_fails_or_not_as_with_openslide(two_levels: Path, kind: str) -> None:
    """The decoder alone would make up what is missing in most of these."""
    whole = two_levels.read_bytes()
    rng = np.random.default_rng(7)
    failed = 0
    for trial in range(30):
        col, row = int(rng.integers(11)), int(rng.integers(9))
        offset, count = place_of_tile(two_levels, col, row)
        at = int(rng.integers(2, count - 2))
        data = bytearray(whole[offset : offset + count])
        if kind == "flip":
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == "cut":
            data[at:] = b"\0" * (count - at)
        else:
            n = min(200, count - at)
            data[at : at + n] = bytes(n) if kind == "zeros" else rng.bytes(n)
        rewrite(two_levels, offset, bytes(data))
        width, height = min(64, 700 - col * 64), min(64, 520 - row * 64)
        place = (0, col * 64, row * 64, width, height)
        with open_slide(two_levels) as slide, _oracle(two_levels) as oracle:
            assert slide.reading.direct_levels == (0, 1)
            try:
                expected = oracle.read_level(*place)
            except RegionReadError:
                failed += 1
                with pytest.raises(RegionReadError):
                    slide.read_level(*place)
            else:
                np.testing.assert_array_equal(slide.read_level(*place), expected, f"{trial}")
        rewrite(two_levels, offset, whole[offset : offset + count])
    assert failed >= (1 if kind == "flip" else 10), "the test shows nothing"


def _use(patch: pytest.MonkeyPatch, decode: Any) -> None:
    fake = types.ModuleType("simplejpeg")
    fake.decode_jpeg = decode  # type: ignore[attr-defined]
    patch.setitem(sys.modules, "simplejpeg", fake)


def _no_decoder(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(sys.modules, "simplejpeg", None)


def _decoder_of_another_version(patch: pytest.MonkeyPatch) -> None:
    _use(patch, lambda data: None)


def _decoder_without_its_function(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(sys.modules, "simplejpeg", types.ModuleType("simplejpeg"))


def _wrong_decoder(patch: pytest.MonkeyPatch) -> None:
    import simplejpeg

    right = simplejpeg.decode_jpeg

    def decode(data: bytes, space: str, *, buffer: Any, strict: bool) -> Any:
        seen = right(data, space, buffer=buffer, strict=strict)
        buffer[10, 10, 1] ^= 1
        return seen

    _use(patch, decode)


def _no_layout(patch: pytest.MonkeyPatch) -> None:
    def broken(path: Path) -> None:
        raise OSError("libtiff.so.9: cannot open shared object file")

    patch.setattr(tifffile, "TiffFile", broken)


def _switched_off(patch: pytest.MonkeyPatch) -> None:
    patch.setenv(READER_VARIABLE, "openslide")


@pytest.mark.parametrize(
    ("spoil", "reason", "to_be_mended"),
    [
        (_no_decoder, "simplejpeg is not installed", True),
        (_decoder_without_its_function, "simplejpeg is installed but does not load", True),
        (_decoder_of_another_version, "direct decoding does not work (TypeError)", True),
        (_wrong_decoder, "a tile of level 0 decodes differently", True),
        (_no_layout, "tifffile cannot read its layout (OSError)", False),
        (_switched_off, "NAPARI_XT_READER says so", False),
    ],
)
def test_without_a_sound_decoder_openslide_reads_and_the_reason_is_told(
    two_levels: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    spoil: Any,
    reason: str,
    to_be_mended: bool,
) -> None:
    tell_once.cache_clear()
    with open_slide(two_levels) as slide:
        expected = slide.read_level(0, 30, 40, 300, 200)
        assert slide.reading.direct_levels == (0, 1)
    spoil(monkeypatch)
    with open_slide(two_levels) as slide:
        np.testing.assert_array_equal(slide.read_level(0, 30, 40, 300, 200), expected)
        assert slide.reading.direct_levels == ()
        assert str(slide.reading) == f"levels 0, 1 by OpenSlide: {reason}"
    with open_slide(two_levels) as slide:
        assert slide.reading.direct_levels == ()
    # Once, and so that the command line shows it.
    told = [one for one in caplog.records if reason in one.getMessage()]
    assert [one.levelname for one in told] == ["ERROR"] * to_be_mended
    tell_once.cache_clear()


def test_an_unknown_reader_is_refused(two_levels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(READER_VARIABLE, "tifffile")
    with pytest.raises(UsageError, match="NAPARI_XT_READER is 'tifffile'"):
        open_slide(two_levels)


def test_two_images_of_the_size_of_a_level(tmp_path: Path) -> None:
    """Which of them OpenSlide shows is not for us to guess."""
    path = tmp_path / "twice.tiff"
    image = texture(128, 128)
    coded = [encode(image[t : t + 64, x : x + 64]) for t in (0, 64) for x in (0, 64)]
    with tifffile.TiffWriter(path) as tiff:
        write_coded(tiff, coded, image.shape, 64)
        write_coded(tiff, coded[::-1], image.shape, 64)
    with open_slide(path) as slide:
        assert "several images" in str(slide.reading)
    _assert_same(path, n=8)


def test_many_threads_read_the_same_pixels(two_levels: Path) -> None:
    with open_slide(two_levels) as slide, _oracle(two_levels) as oracle:
        places = [(level, *place) for level in (0, 1) for place in _places(slide, level, 60, 5)]
        expected = [oracle.read_level(*place) for place in places]
        with ThreadPoolExecutor(8) as pool:
            seen = list(pool.map(lambda place: slide.read_level(*place), places * 3))
    for ours, theirs in zip(seen, expected * 3, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_cache_is_bounded_and_every_read_is_right(
    two_levels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    decode = direct.DirectTiles._decode

    def counted(self: Any, *args: Any, **options: Any) -> Any:
        decoded.append(1)
        return decode(self, *args, **options)

    with open_slide(two_levels) as slide, _oracle(two_levels) as oracle:
        assert slide.reading.direct_levels
        monkeypatch.setattr(direct.DirectTiles, "_decode", counted)
        slide._tiles._memory.max_bytes = 10 * 64 * 64 * 3
        for _ in range(2):
            for y in range(0, 500, 60):
                seen = slide.read_level(0, 0, y, 128, 60)
                np.testing.assert_array_equal(seen, oracle.read_level(0, 0, y, 128, 60))
                assert slide._tiles._memory.n_bytes <= 10 * 64 * 64 * 3
        assert len(decoded) == 2 * 2 * 9, "a row of tiles is decoded once"


@pytest.mark.parametrize("threads", [0, 2])
def test_a_walk_in_rows_decodes_every_tile_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    decoded: list[tuple[int, int]] = []
    decode = direct.DirectTiles._decode

    def counted(self: Any, file: Any, level: int, index: int, out: Any) -> bool:
        decoded.append((level, index))
        return decode(self, file, level, index, out)

    monkeypatch.setattr(direct, "_LEAST_BYTES", 0)
    path = write_jpeg_slide(tmp_path / "wide.tiff", [texture(2560, 520)])
    with open_slide(path) as slide:
        assert slide.reading.direct_levels
        monkeypatch.setattr(direct.DirectTiles, "_decode", counted)
        mpp = slide.require_mpp()
        lattice = Lattice.for_bounds((20, 20, 2516, 468), (mpp.x, mpp.y), mpp.x, 64)
        cells = lattice.all_cells()
        with Reader(slide, lattice, cells, batch_size=4, threads=threads) as reader:
            assert sum(len(batch.rows) for batch in reader) == len(cells)
    assert len(set(decoded)) >= 40 * 8
    assert len(decoded) == len(set(decoded)), "those ahead push out what the row below needs"


@pytest.mark.parametrize("broken", ["tifffile", "imagecodecs", "simplejpeg"])
def test_what_scores_loads_without_a_library_that_only_makes_it_faster(broken: str) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.modules[{broken!r}] = None\n"
            "import xt_backend.batch, xt_backend.cli.app, xt_backend.engine, xt_backend.outputs\n"
            "from xt_backend.outputs import outlines",
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_a_decoder_that_breaks_later_leaves_its_tiles_to_openslide(
    two_levels: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tell_once.cache_clear()

    def broken(self: Any, data: bytes, out: Any) -> bool:
        raise RuntimeError("late")

    with open_slide(two_levels) as slide, _oracle(two_levels) as oracle:
        assert slide.reading.direct_levels
        monkeypatch.setattr(JpegTiles, "decode", broken)
        seen = slide.read_level(0, 0, 0, 300, 200)
        np.testing.assert_array_equal(seen, oracle.read_level(0, 0, 0, 300, 200))
    assert "direct decoding does not work (RuntimeError)" in caplog.text


@pytest.mark.parametrize("how", ["decoded", "refused", "raised"])
def test_a_tile_is_decoded_once_for_all_who_wait_for_it(
    two_levels: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """And whatever becomes of it, nobody waits for ever."""
    entered, go, decoded = threading.Event(), threading.Event(), []
    decode, wait = direct.DirectTiles._decode, TileMemory.wait
    waiting = threading.Semaphore(0)

    def slow(self: Any, *args: Any) -> bool:
        decoded.append(args)
        entered.set()
        assert go.wait(60)
        if how == "raised":
            raise MemoryError
        return how == "decoded" and decode(self, *args)

    def noted(self: Any, tiles: Any) -> None:
        waiting.release()
        wait(self, tiles)

    place = (0, 70, 70, 20, 20)
    with open_slide(two_levels) as slide, _oracle(two_levels) as oracle:
        expected = oracle.read_level(*place)
        assert slide.reading.direct_levels
        monkeypatch.setattr(direct.DirectTiles, "_decode", slow)
        monkeypatch.setattr(TileMemory, "wait", noted)
        with ThreadPoolExecutor(4) as pool:
            first = pool.submit(slide.read_level, *place)
            assert entered.wait(60)
            others = [pool.submit(slide.read_level, *place) for _ in range(3)]
            for _ in others:
                assert waiting.acquire(timeout=60)
            go.set()
            if how == "raised":
                with pytest.raises(MemoryError):
                    first.result(60)
            else:
                np.testing.assert_array_equal(first.result(60), expected)
            for other in others:
                np.testing.assert_array_equal(other.result(60), expected)
        assert len(decoded) == 1


def test_large_reads_hold_few_tiles_beside_the_cache(
    two_levels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct, "_AT_ONCE_BYTES", 3 * 64 * 64 * 3)
    lent: list[int] = []
    borrow = TileMemory.borrow

    def noted(self: Any, keys: Any, *size: int) -> Any:
        lent.append(len(keys))
        return borrow(self, keys, *size)

    with open_slide(two_levels) as slide, _oracle(two_levels) as oracle:
        assert slide.reading.direct_levels
        slide._tiles._memory.max_bytes = 0
        monkeypatch.setattr(TileMemory, "borrow", noted)
        seen = slide.read_level(0, 3, 5, 690, 500)
        assert slide._tiles._memory.n_bytes == 0
        np.testing.assert_array_equal(seen, oracle.read_level(0, 3, 5, 690, 500))
    assert max(lent) == 3
    assert sum(lent) == 11 * 8


def test_a_file_that_is_cut_off_while_it_is_open_fails_the_read(two_levels: Path) -> None:
    with open_slide(two_levels) as slide:
        first = slide.read_level(0, 0, 0, 64, 64)
        assert slide.reading.direct_levels == (0, 1)
        os.truncate(two_levels, place_of_tile(two_levels, 0, 1)[0])
        np.testing.assert_array_equal(slide.read_level(0, 0, 0, 64, 64), first)
        with pytest.raises(RegionReadError):
            slide.read_level(0, 300, 300, 128, 128)


def test_a_file_that_vanishes_ends_nothing(two_levels: Path) -> None:
    with _oracle(two_levels) as oracle:
        expected = oracle.read_level(0, 300, 300, 128, 128)
    with open_slide(two_levels) as slide:
        assert slide.reading.direct_levels == (0, 1)
        two_levels.unlink()
        np.testing.assert_array_equal(slide.read_level(0, 300, 300, 128, 128), expected)


def test_a_closed_slide_reads_no_more(two_levels: Path) -> None:
    slide = open_slide(two_levels)
    slide.read_level(0, 0, 0, 64, 64)
    slide.close()
    with pytest.raises(UsageError, match="closed"):
        slide.read_level(0, 0, 0, 64, 64)


def test_nothing_is_logged_about_odd_files(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_slide(tmp_path / "plain.tiff", _levels())
    with caplog.at_level(logging.ERROR), open_slide(path) as slide:
        assert slide.reading.reasons == ("its tiles are deflate",) * 2
    assert capfd.readouterr() == ("", "")
