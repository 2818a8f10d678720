"""Levels as array-likes: right pixels, bounded memory, marked holes."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Image

from napari_xt.pool import DaemonPool
from napari_xt.pyramid import Pyramid
from napari_xt.slide_file import SlideFile
from napari_xt.tiles import OVERVIEW_PX, TILE_PX, TileCache, halve, hatched_tile
from xt_backend.errors import SlideError, SlideOpenError
from xt_backend.slides import open_slide

from .conftest import spoil_tile, write_slide


@pytest.fixture
def noisy(tmp_path: Path, noisy_image: Any) -> Pyramid:
    return Pyramid(write_slide(tmp_path / "noisy.tiff", noisy_image))


@pytest.mark.parametrize(
    "key",
    [
        np.s_[10:40, 500:530],
        np.s_[0:1500, 2000:2100],
        np.s_[500:1030, 1020:1030, 1],
        np.s_[1499, 3],
        np.s_[1499, :7],
        np.s_[-5:, -9:],
        np.s_[100:900:150, ::333],
        np.s_[900:100:-100, 5:2],
        np.s_[..., 0],
        np.s_[7],
        np.s_[-1, ..., -1],
        np.s_[10:20, ...],
        np.s_[:],
    ],
)
def test_indexing_is_that_of_the_array(noisy: Pyramid, noisy_image: Any, key: Any) -> None:
    np.testing.assert_array_equal(noisy.levels[0][key], noisy_image[key])


def test_too_many_or_too_large_indices_are_index_errors(noisy: Pyramid) -> None:
    for key in (np.s_[0, 0, 0, 0], np.s_[1500], np.s_[0, 2100]):
        with pytest.raises(IndexError):
            noisy.levels[0][key]


def test_each_level_is_the_files_own(noisy: Pyramid, noisy_image: Any) -> None:
    assert [level.shape for level in noisy.levels] == [
        (1500, 2100, 3),
        (750, 1050, 3),
        (375, 525, 3),
    ]
    for index, level in enumerate(noisy.levels):
        np.testing.assert_array_equal(np.asarray(level), noisy_image[:: 2**index, :: 2**index])


def test_reading_again_asks_the_file_for_nothing(
    noisy: Pyramid, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = noisy.levels[0][200:900, 300:1400]
    asked: list[int] = []
    monkeypatch.setattr(
        type(noisy._slide()), "read_level", lambda *args: asked.append(1), raising=True
    )
    np.testing.assert_array_equal(noisy.levels[0][200:900, 300:1400], first)
    assert not asked
    assert noisy.cache.hits > 0


def test_the_cache_stays_below_its_bound_and_drops_the_oldest(noisy: Pyramid) -> None:
    tile_bytes = TILE_PX * TILE_PX * 3
    noisy.cache = TileCache(3 * tile_bytes)
    noisy.levels[0][:]
    assert 0 < noisy.cache.n_bytes <= 3 * tile_bytes
    cache = TileCache(2 * tile_bytes)
    tiles = [np.full((TILE_PX, TILE_PX, 3), value, np.uint8) for value in range(3)]
    cache.put((0, 0, 0), tiles[0])
    cache.put((0, 0, 1), tiles[1])
    assert cache.get((0, 0, 0)) is tiles[0]  # now the younger one
    cache.put((0, 0, 2), tiles[2])
    assert cache.get((0, 0, 1)) is None
    assert cache.get((0, 0, 0)) is tiles[0]


def test_levels_share_one_cache(noisy: Pyramid) -> None:
    noisy.levels[0][:10, :10]
    noisy.levels[2][:10, :10]
    assert len(noisy.cache) == 2


def test_lower_levels_are_made_where_the_file_has_one(tmp_path: Path, noisy_image: Any) -> None:
    pyramid = Pyramid(write_slide(tmp_path / "one.tiff", noisy_image, levels=1))
    assert len(pyramid.levels) == 2
    np.testing.assert_array_equal(np.asarray(pyramid.levels[1]), halve(noisy_image))


def test_a_large_coarsest_level_is_halved_down(tmp_path: Path) -> None:
    image = np.zeros((600, 6000, 3), np.uint8)
    image[:, 3000:] = 200
    pyramid = Pyramid(write_slide(tmp_path / "wide.tiff", image, levels=1))
    assert max(pyramid.levels[-1].shape) <= 2 * OVERVIEW_PX
    sizes = [level.shape[1] for level in pyramid.levels]
    assert sizes == [6000, 3000, 1500]
    lowest = np.asarray(pyramid.levels[-1])
    assert (lowest[:, :740] == 0).all()
    assert (lowest[:, 760:] == 200).all()


def test_wide_gaps_between_levels_are_filled(tmp_path: Path) -> None:
    import tifffile

    image = np.random.default_rng(1).integers(0, 256, (64, 4096, 3), dtype=np.uint8)
    path = tmp_path / "gap.tiff"
    with tifffile.TiffWriter(path) as writer:
        for step in (1, 16):
            writer.write(
                image[::step, ::step],
                tile=(64, 64),
                photometric="rgb",
                compression="deflate",
                subfiletype=int(step > 1),
            )
    pyramid = Pyramid(path)
    assert [level.shape[1] for level in pyramid.levels] == [4096, 2048, 1024, 256]
    np.testing.assert_array_equal(np.asarray(pyramid.levels[1]), halve(image))
    np.testing.assert_array_equal(np.asarray(pyramid.levels[-1]), image[::16, ::16])


def test_halving_is_the_mean_of_four(noisy_image: Any) -> None:
    small = noisy_image[:100, :60].astype(float)
    wanted = small.reshape(50, 2, 30, 2, 3).mean(axis=(1, 3))
    assert np.abs(halve(noisy_image[:100, :60]) - wanted).max() <= 0.5
    assert halve(noisy_image[:7, :5]).shape == (4, 3, 3)
    np.testing.assert_array_equal(halve(noisy_image[:1, :1]), noisy_image[:1, :1])


def test_what_cannot_be_read_is_hatched_and_the_rest_is_right(
    tmp_path: Path, noisy_image: Any
) -> None:
    path = write_slide(tmp_path / "spoilt.tiff", noisy_image)
    spoil_tile(path, 1024, 512)
    pyramid = Pyramid(path)
    shown = pyramid.levels[0][:]
    hole = np.s_[512:768, 1024:1280]
    np.testing.assert_array_equal(shown[hole], hatched_tile(1024, 512, 256, 256))
    shown[hole] = noisy_image[hole]
    np.testing.assert_array_equal(shown, noisy_image)


def test_what_could_not_be_read_is_tried_again(tmp_path: Path, noisy_image: Any) -> None:
    path = write_slide(tmp_path / "share.tiff", noisy_image)
    whole = path.read_bytes()
    spoil_tile(path, 0, 0)
    pyramid = Pyramid(path)
    assert not np.array_equal(pyramid.levels[0][:256, :256], noisy_image[:256, :256])
    path.write_bytes(whole)
    np.testing.assert_array_equal(pyramid.levels[0][:256, :256], noisy_image[:256, :256])


def test_hatching_fits_together() -> None:
    whole = hatched_tile(0, 0, 64, 64)
    np.testing.assert_array_equal(hatched_tile(24, 40, 40, 24), whole[40:, 24:])
    assert len(np.unique(whole.reshape(-1, 3), axis=0)) == 2


def test_closing_lets_go_and_reading_opens_again(noisy: Pyramid, noisy_image: Any) -> None:
    before = set(threading.enumerate())
    noisy.levels[0][:5, :5]
    started = threads_since(before)
    assert started
    noisy.close()
    assert not noisy.is_open
    assert not len(noisy.cache)
    for thread in started:
        thread.join(60)
        assert not thread.is_alive()
    np.testing.assert_array_equal(noisy.levels[0][:5, :5], noisy_image[:5, :5])
    assert noisy.is_open


class Held:
    """Holds every read of a pyramid's file back until it is opened."""

    def __init__(self, pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reading = threading.Event()
        self.go_on = threading.Event()
        read = type(pyramid._slide()).read_level

        def held(slide: Any, *place: int) -> Any:
            self.reading.set()
            assert self.go_on.wait(60)
            return read(slide, *place)

        monkeypatch.setattr(type(pyramid._slide()), "read_level", held)


def threads_since(before: set[threading.Thread]) -> list[threading.Thread]:
    """Threads of pyramids that were started since; other tests may have left some of theirs."""
    return [
        item
        for item in set(threading.enumerate()) - before
        if item.name.startswith(("xt-tiles", "xt-halves"))
    ]


def test_reads_that_wait_when_it_is_closed_end_and_never_open_the_file_again(
    noisy: Pyramid, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(noisy, monkeypatch)
    outcomes: list[str] = []

    def read(level: int) -> None:
        try:
            noisy.levels[level][:]
            outcomes.append("pixels")
        except SlideError as error:
            outcomes.append(str(error))

    before = set(threading.enumerate())
    # 12 tiles of level 0 for 2 threads: most are still queued when the slide is closed.
    readers = [threading.Thread(target=read, args=(level,)) for level in (0, 1, 2)]
    for reader in readers:
        reader.start()
    assert held.reading.wait(60)
    until = time.monotonic() + 60
    while {key[0] for key in list(noisy._in_flight)} < {0, 1, 2} and time.monotonic() < until:
        time.sleep(0.01)
    threads = threads_since(before)
    noisy.close()
    held.go_on.set()
    for thread in [*readers, *threads]:
        thread.join(60)
        assert not thread.is_alive()
    assert len(outcomes) == 3
    assert "pixels" not in outcomes
    assert all("closed" in outcome for outcome in outcomes)
    assert not noisy.is_open
    assert not len(noisy.cache)
    assert not noisy._in_flight


@pytest.mark.parametrize("patience_s", [None, 30.0])
def test_a_read_that_is_still_asking_for_tiles_when_it_is_closed_opens_nothing_again(
    noisy: Pyramid, monkeypatch: pytest.MonkeyPatch, patience_s: float | None
) -> None:
    pool = SlideFile.pool
    asked: list[bool] = []

    def closed_between(file: SlideFile, stopped: threading.Event, *, slow: bool) -> Any:
        if asked:
            noisy._file.release()
        asked.append(slow)
        return pool(file, stopped, slow=slow)

    monkeypatch.setattr(SlideFile, "pool", closed_between)
    noisy.patience_s = patience_s
    began = time.monotonic()
    if patience_s is None:
        with pytest.raises(SlideError, match="closed while it was read"):
            noisy.levels[0][:]
    else:  # a viewer is told nothing, and waits for nothing
        noisy.levels[0][:]
        assert time.monotonic() - began < patience_s
    assert len(asked) > 2
    assert not noisy.is_open


def test_a_halved_tile_that_is_half_done_when_it_is_closed_is_given_up(
    tmp_path: Path, noisy_image: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pyramid = Pyramid(write_slide(tmp_path / "one.tiff", noisy_image, levels=1))
    held = Held(pyramid, monkeypatch)
    before = set(threading.enumerate())
    pyramid.patience_s = 0.05
    assert len(np.unique(pyramid.levels[1][:500, :500])) == 1  # pale, while it is being made
    threads = threads_since(before)
    pyramid.close()
    held.go_on.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not pyramid.is_open
    assert not len(pyramid.cache)
    # The place can be read again: nothing of the given-up job is in the way.
    pyramid.patience_s = None
    np.testing.assert_array_equal(np.asarray(pyramid.levels[1]), halve(noisy_image))


def test_a_pool_that_is_shut_down_answers_every_job() -> None:
    pool = DaemonPool(1, "test-pool")
    begun, go_on = threading.Event(), threading.Event()

    def wait() -> str:
        begun.set()
        assert go_on.wait(60)
        return "done"

    in_hand, queued = pool.submit(wait), pool.submit(wait)
    assert begun.wait(60)
    pool.shut_down()
    go_on.set()
    assert in_hand.result(60) == "done"
    for future in (queued, pool.submit(wait)):
        with pytest.raises(CancelledError):
            future.result(60)


def test_a_forgotten_pyramid_closes_its_file(tmp_path: Path, noisy_image: Any) -> None:
    pyramid = Pyramid(write_slide(tmp_path / "lost.tiff", noisy_image))
    file = pyramid._file
    assert file.is_open
    del pyramid
    assert not file.is_open


def test_no_slide_no_pyramid(tmp_path: Path) -> None:
    (tmp_path / "no.svs").write_text("a letter")
    with pytest.raises(SlideOpenError):
        Pyramid(tmp_path / "no.svs")


def test_many_threads_read_the_same_place_once(noisy: Pyramid, noisy_image: Any) -> None:
    shown: list[Any] = []
    threads = [
        threading.Thread(target=lambda: shown.append(noisy.levels[0][:400, :400])) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(shown) == 6
    assert all(np.array_equal(block, noisy_image[:400, :400]) for block in shown)
    assert not noisy._in_flight


@pytest.mark.parametrize(
    "name",
    [
        "bcss-roi/slides/bcss_1008.svs",
        "slides-layouts/bcss_1008_dicom",
        "slides-layouts/bcss_1015_crop_leica.scn",
        "slides-layouts/bcss_1015_crop_mirax.mrxs",
        "slides-layouts/bcss_1015_crop_philips.tiff",
        "slides-layouts/bcss_1015_crop_trestle.tif",
        "slides-layouts/bcss_1015_crop_ventana.bif",
        "slides-layouts/bcss_1015_crop_vms/bcss_1015.vms",
        "slides-vendor/aperio/CMU-1-Small-Region.svs",
        "slides-vendor/hamamatsu/test3-DAPI-2-(387).ndpi",
    ],
)
def test_real_slides_show_their_pixels(shared_data: Path, name: str) -> None:
    pyramid = Pyramid(shared_data / name)
    layer = Image(pyramid.levels, multiscale=True, rgb=True)
    assert layer.rgb
    x_px, y_px, width_px, height_px = pyramid.info.bounds_px
    x_px, y_px = x_px + width_px // 3, y_px + height_px // 3
    with open_slide(shared_data / name) as slide:
        for index, level in enumerate(pyramid.levels[: len(slide.info.level_dimensions)]):
            down = slide.info.level_downsamples[index]
            if level.shape[:2] != slide.info.level_dimensions[index][::-1]:
                break  # a level that was filled in
            x, y = int(x_px / down), int(y_px / down)
            width, height = min(300, level.shape[1] - x), min(200, level.shape[0] - y)
            np.testing.assert_array_equal(
                level[y : y + height, x : x + width], slide.read_level(index, x, y, width, height)
            )
    pyramid.close()
