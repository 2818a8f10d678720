"""Regions in order, byte for byte the same however they are read."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.jpeg_slides import write_jpeg_slide

from xt_backend.errors import RegionReadError, UsageError
from xt_backend.keys import RegionStatus
from xt_backend.slides import Lattice, Reader, RegionBatch, Slide, blocks, open_slide, resample
from xt_backend.slides.direct import DirectTiles
from xt_backend.slides.pixels import Pixels
from xt_backend.slides.reading import READER_VARIABLE

from .slide_makers import area_average, spoil_tile, texture, write_slide


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1100 x 900 px at 0.25 um/px, one level of a third that does not divide evenly."""
    image = texture(1100, 900, seed=8)
    small = area_average(image, 367, 300).round().astype(np.uint8)
    return write_slide(tmp_path_factory.mktemp("r") / "r.tiff", [image, small])


def _lattice(slide: Slide, mpp: float, region: int, stride: int | None = None) -> Lattice:
    slide_mpp = slide.require_mpp()
    return Lattice.for_bounds(slide.info.bounds_px, (slide_mpp.x, slide_mpp.y), mpp, region, stride)


def _collect(batches: Any) -> RegionBatch:
    parts = list(batches)
    return RegionBatch(
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.pixels for part in parts]),
        np.concatenate([part.status for part in parts]),
    )


@pytest.mark.parametrize(
    ("mpp", "region", "stride"),
    [(0.25, 64, 64), (0.25, 64, 40), (0.4, 50, 50), (0.5, 64, 64), (1.0, 48, 48), (3.3, 16, 11)],
)
@pytest.mark.parametrize("threads", [0, 3])
def test_same_bytes_alone_and_together(
    path: Path, mpp: float, region: int, stride: int, threads: int
) -> None:
    with open_slide(path) as slide:
        lattice = _lattice(slide, mpp, region, stride)
        cells = lattice.all_cells()
        with Reader(slide, lattice, cells, batch_size=7, threads=threads) as reader:
            seen = _collect(reader)
        assert seen.rows.tolist() == list(range(len(cells)))
        assert seen.pixels.shape == (len(cells), region, region, 3)
        np.testing.assert_array_equal(
            seen.status,
            np.where(lattice.is_edge(cells), int(RegionStatus.EDGE), int(RegionStatus.OK)),
        )
        for row, (x0, y0, _, _) in enumerate(lattice.boxes(cells).tolist()):
            np.testing.assert_array_equal(seen.pixels[row], slide.read(x0, y0, region, region, mpp))


@pytest.mark.parametrize("budget", [1, 30_000, 10**9])
def test_block_size_changes_nothing(
    path: Path, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_slide(path) as slide:
        lattice = _lattice(slide, 0.4, 50)
        cells = lattice.all_cells()
        with Reader(slide, lattice, cells, batch_size=32, threads=0) as reader:
            expected = _collect(reader)
        monkeypatch.setattr(blocks, "MAX_BLOCK_PX", budget)
        with Reader(slide, lattice, cells, batch_size=5, threads=2) as reader:
            seen = _collect(reader)
    np.testing.assert_array_equal(seen.pixels, expected.pixels)


def test_strips_of_large_regions_change_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regions too large to be made at once."""
    monkeypatch.setattr(resample, "MAX_STRIP_PX", 12_000)
    with open_slide(path) as slide:
        lattice = _lattice(slide, 0.5, 100)
        cells = lattice.all_cells()
        with Reader(slide, lattice, cells, batch_size=4, threads=1) as reader:
            seen = _collect(reader)
        assert len(list(resample.strips(slide.plan(0.5), 0, 0, 100, 100))) > 2
        for row, (x0, y0, _, _) in enumerate(lattice.boxes(cells).tolist()):
            np.testing.assert_array_equal(seen.pixels[row], slide.read(x0, y0, 100, 100, 0.5))


def test_neighbours_share_one_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    read = Pixels._level

    def counted(self: Pixels, level: int, x: int, y: int, width: int, height: int) -> Any:
        reads.append(width)
        return read(self, level, x, y, width, height)

    monkeypatch.setattr(Pixels, "_level", counted)
    with open_slide(path) as slide:
        lattice = _lattice(slide, 0.25, 64)
        cells = lattice.all_cells()
        with Reader(slide, lattice, cells, batch_size=len(cells), threads=0) as reader:
            list(reader)
        assert reads == [lattice.n_cols * 64] * lattice.n_rows
        reads.clear()
        with Reader(slide, lattice, cells, batch_size=lattice.n_cols - 1, threads=0) as reader:
            list(reader)
        assert sum(reads) == len(cells) * 64, "nothing is read twice where batches end"
        reads.clear()
        apart = cells[(cells[:, 0] % 2 == 0)]
        with Reader(slide, lattice, apart, batch_size=100, threads=0) as reader:
            list(reader)
        assert reads == [64] * len(apart)


def test_regions_as_they_are_in_the_tiles_decode_each_tile_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With many threads on neighbouring blocks, and as OpenSlide has them."""
    decoded: list[int] = []
    decode = DirectTiles._decode

    def counted(self: Any, file: Any, level: int, index: int, out: Any) -> bool:
        decoded.append(index)
        return decode(self, file, level, index, out)

    jpeg = write_jpeg_slide(tmp_path / "j.tiff", [texture(700, 520)])
    with open_slide(jpeg) as slide:
        assert slide.reading.direct_levels == (0,)
        monkeypatch.setattr(DirectTiles, "_decode", counted)
        mpp = slide.require_mpp()
        bounds = (20, 30, 680, 490)
        lattice = Lattice.for_bounds(bounds, (mpp.x, mpp.y), mpp.x, 64)
        cells = lattice.all_cells()
        with Reader(slide, lattice, cells, batch_size=5, threads=4) as reader:
            seen = _collect(reader)
        assert sorted(decoded) == sorted(set(decoded))
        assert len(decoded) >= lattice.n_cols * lattice.n_rows
    with monkeypatch.context() as patch:
        patch.setenv(READER_VARIABLE, "openslide")
        with open_slide(jpeg) as oracle:
            for row, (x0, y0, _, _) in enumerate(lattice.boxes(cells).tolist()):
                expected = oracle.read(x0, y0, 64, 64, mpp.x)
                np.testing.assert_array_equal(seen.pixels[row], expected)


def test_cells_in_any_order_and_repeated(path: Path) -> None:
    with open_slide(path) as slide:
        lattice = _lattice(slide, 0.5, 64)
        cells = lattice.all_cells()[[5, 4, 3, 4, 4, 20, 5, 6, 7]]
        with Reader(slide, lattice, cells, batch_size=2, threads=2) as reader:
            assert len(reader) == 9
            sizes = [len(batch.rows) for batch in reader]
        assert sizes == [2, 2, 2, 2, 1]
        with Reader(slide, lattice, cells, batch_size=9, threads=2) as reader:
            (batch,) = reader
        np.testing.assert_array_equal(batch.pixels[1], batch.pixels[3])
        np.testing.assert_array_equal(batch.pixels[0], batch.pixels[6])
        assert (batch.pixels[5] != batch.pixels[0]).any()


def test_no_cells(path: Path) -> None:
    with open_slide(path) as slide:
        lattice = _lattice(slide, 0.5, 64)
        with Reader(slide, lattice, np.empty((0, 2), int), batch_size=4) as reader:
            assert list(reader) == []


def test_only_regions_of_a_bad_place_suffer(path: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.tiff"
    bad.write_bytes(path.read_bytes())
    spoil_tile(bad, 4, 3)
    with open_slide(path) as good_slide, open_slide(bad) as bad_slide:
        lattice = _lattice(good_slide, 0.5, 50)
        cells = lattice.all_cells()
        with Reader(good_slide, lattice, cells, batch_size=8, threads=2) as reader:
            good = _collect(reader)
        with Reader(bad_slide, lattice, cells, batch_size=8, threads=3) as reader:
            seen = _collect(reader)
    failed = seen.status == RegionStatus.READ_ERROR
    boxes = lattice.boxes(cells)
    # The tile is at 256 to 320 and 192 to 256 px; filters look up to 2 px beyond a region.
    hit = (
        (boxes[:, 0] - 3 < 320)
        & (boxes[:, 2] + 3 > 256)
        & (boxes[:, 1] - 3 < 256)
        & (boxes[:, 3] + 3 > 192)
    )
    np.testing.assert_array_equal(failed, hit)
    assert 1 <= failed.sum() <= 9
    assert (seen.pixels[failed] == 0).all()
    np.testing.assert_array_equal(seen.pixels[~failed], good.pixels[~failed])
    np.testing.assert_array_equal(seen.status[~failed], good.status[~failed])


def test_regions_read_in_part_are_blank(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upper strips of a region are readable, a lower one is not."""
    bad = tmp_path / "bad.tiff"
    bad.write_bytes(path.read_bytes())
    spoil_tile(bad, 1, 2)
    monkeypatch.setattr(resample, "MAX_STRIP_PX", 12_000)
    with open_slide(bad) as slide:
        lattice = _lattice(slide, 0.5, 100)
        with Reader(slide, lattice, [[0, 0], [3, 3]], batch_size=2, threads=1) as reader:
            (batch,) = reader
    assert batch.status.tolist() == [RegionStatus.READ_ERROR, RegionStatus.OK]
    assert (batch.pixels[0] == 0).all()
    assert batch.pixels[1].any()


def test_other_errors_reach_the_consumer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Pixels, plan: Any, window: Any) -> Any:
        raise RuntimeError("out of cheese")

    monkeypatch.setattr(Pixels, "raw", broken)
    before = set(threading.enumerate())
    with open_slide(path) as slide:
        lattice = _lattice(slide, 0.5, 64)
        reader = Reader(slide, lattice, lattice.all_cells(), batch_size=4, threads=2)
        with pytest.raises(RuntimeError, match="cheese"):
            list(reader)
    assert not _reader_threads(before)


def _reader_threads(before: set[threading.Thread]) -> list[threading.Thread]:
    """Those that were started since; an earlier test may have left some that are about to end."""
    started = set(threading.enumerate()) - before
    return [thread for thread in started if thread.name.startswith("xt-reader")]


def test_memory_is_bounded_by_what_is_read_ahead(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow consumer: the threads stop after a few blocks."""
    reads = []
    read = Pixels._level

    def counted(self: Pixels, *place: int) -> Any:
        reads.append(place)
        return read(self, *place)

    monkeypatch.setattr(Pixels, "_level", counted)
    monkeypatch.setattr(blocks, "MAX_BLOCK_PX", 1)
    with open_slide(path) as slide:
        lattice = _lattice(slide, 0.25, 32)
        with Reader(slide, lattice, lattice.all_cells(), batch_size=1, threads=2) as reader:
            batches = iter(reader)
            next(batches)
            time.sleep(0.3)
            assert 1 <= len(reads) <= 6
            assert len(lattice.all_cells()) > 500


def test_closing_early_ends_the_threads(path: Path) -> None:
    before = set(threading.enumerate())
    with open_slide(path) as slide:
        lattice = _lattice(slide, 0.25, 32)
        with Reader(slide, lattice, lattice.all_cells(), batch_size=3, threads=3) as reader:
            batches = iter(reader)
            assert len(next(batches).rows) == 3
            assert _reader_threads(before)
        assert not _reader_threads(before)
        reader.close()
        with pytest.raises(UsageError, match="used up or closed"):
            iter(reader)


@pytest.mark.parametrize("threads", [0, 2])
def test_closing_ends_the_iteration(path: Path, threads: int) -> None:
    with open_slide(path) as slide:
        lattice = _lattice(slide, 0.25, 32)
        cells = lattice.all_cells()
        with Reader(slide, lattice, cells, batch_size=4, threads=threads) as reader:
            n = 0
            for batch in reader:
                n += len(batch.rows)
                if n >= 8:
                    reader.close()
        # A block that was ready may still come; the rest does not.
        assert 8 <= n < len(cells) / 2


def test_abandoned_iteration_ends_the_threads(path: Path) -> None:
    before = set(threading.enumerate())
    with open_slide(path) as slide:
        lattice = _lattice(slide, 0.25, 32)
        batches = iter(Reader(slide, lattice, lattice.all_cells(), batch_size=3, threads=2))
        next(batches)
        assert _reader_threads(before)
        batches.close()  # type: ignore[attr-defined]
        assert not _reader_threads(before)


def test_batches_may_be_kept(path: Path) -> None:
    with open_slide(path) as slide:
        lattice = _lattice(slide, 0.5, 64)
        cells = lattice.all_cells()
        with Reader(slide, lattice, cells, batch_size=5, threads=2) as reader:
            kept = []
            for batch in reader:
                kept.append((batch, batch.pixels.copy()))
        for batch, copy in kept:
            np.testing.assert_array_equal(batch.pixels, copy)


def test_times_are_counted(path: Path) -> None:
    with open_slide(path) as slide:
        lattice = _lattice(slide, 0.5, 64)
        with Reader(slide, lattice, lattice.all_cells(), batch_size=5, threads=2) as reader:
            assert reader.seconds_read == reader.seconds_waited == 0
            list(reader)
            assert reader.seconds_read > 0
            assert reader.seconds_waited > 0


def test_slide_smaller_than_a_region(tmp_path: Path) -> None:
    small = write_slide(tmp_path / "small.tiff", [texture(20, 30)])
    with open_slide(small) as slide:
        lattice = _lattice(slide, 0.25, 64)
        with Reader(slide, lattice, lattice.all_cells(), batch_size=5, threads=1) as reader:
            (batch,) = reader
    assert batch.status.tolist() == [RegionStatus.EDGE]
    assert (batch.pixels[0, 30:] == 255).all()
    assert (batch.pixels[0, :30, :20] == texture(20, 30)).all()


@pytest.mark.parametrize(
    ("cells", "word"),
    [
        ([[999, 0]], "outside the lattice"),
        ([[0, -1]], "outside the lattice"),
        ([[0.0, 1.0]], "whole numbers"),
        ([1, 2], "whole numbers"),
        ([[1, 2, 3]], "whole numbers"),
    ],
)
def test_bad_cells_are_refused(path: Path, cells: Any, word: str) -> None:
    with open_slide(path) as slide, pytest.raises(UsageError, match=word):
        Reader(slide, _lattice(slide, 0.5, 64), cells, batch_size=4)


def test_bad_arguments_are_refused(path: Path) -> None:
    with open_slide(path) as slide:
        lattice = _lattice(slide, 0.5, 64)
        for options in ({"batch_size": 0}, {"batch_size": 1, "threads": -1}):
            with pytest.raises(UsageError, match="batch size"):
                Reader(slide, lattice, [[0, 0]], **options)  # type: ignore[arg-type]
        other = Lattice.for_bounds(slide.info.bounds_px, (0.3, 0.3), 0.5, 64)
        with pytest.raises(UsageError, match="um/px"):
            Reader(slide, other, [[0, 0]], batch_size=1)
        beyond = Lattice.for_bounds((500, 0, 900, 900), lattice.slide_mpp, 0.5, 64)
        with pytest.raises(UsageError, match="beyond the slide"):
            Reader(slide, beyond, [[0, 0]], batch_size=1)
        huge = Lattice.for_bounds(slide.info.bounds_px, lattice.slide_mpp, 0.5, 20_000)
        with pytest.raises(UsageError, match="Mpx"):
            Reader(slide, huge, [[0, 0]], batch_size=1)


def test_read_errors_of_single_reads_are_raised(path: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.tiff"
    bad.write_bytes(path.read_bytes())
    spoil_tile(bad, 0, 0)
    with open_slide(bad) as slide:
        with pytest.raises(RegionReadError):
            slide.read(0, 0, 32, 32, 0.5)
        assert slide.read(300, 300, 32, 32, 0.5).shape == (32, 32, 3)
