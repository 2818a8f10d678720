"""Masks as OME-TIFF: what other programs read, and scratch files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from support.score_maps import CLASSES, COLORS, make_score_map

from xt_backend.errors import NoSpaceError, StoreCorruptError, StoreError
from xt_backend.outputs import SlideMask, mask_canvas, read_mask, tissue_mask_px, write_mask
from xt_backend.slides import Lattice, everything, find_slides, tissue_from_mask
from xt_backend.store import MaskGrid, ScoreMap, publish


@pytest.fixture
def score_map() -> ScoreMap:
    """2501 x 3002 px at 0.25 um/px, from (1000, 2000) on: a mask of 625 x 751."""
    return make_score_map(
        lattice=Lattice.for_bounds((1000, 2000, 2501, 3002), (0.25, 0.25), 0.25, 256),
        task="dense",
    )


@pytest.fixture
def mask(score_map: ScoreMap) -> np.ndarray:
    shape = MaskGrid(score_map.lattice).shape
    assert shape == (751, 625)
    blocks = np.random.default_rng(1).integers(0, 4, (95, 80), np.uint8)
    return np.kron(blocks, np.ones((8, 8), np.uint8))[: shape[0], : shape[1]]


def test_tifffile_finds_the_pyramid_and_what_the_numbers_mean(
    score_map: ScoreMap, mask: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "a.mask.ome.tiff"
    write_mask(path, mask, score_map)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_ome
        (series,) = tiff.series
        assert [level.shape for level in series.levels] == [(751, 625), (376, 313)]
        assert series.axes == "YX"
        assert all(page.is_tiled for level in series.levels for page in level.pages)
        np.testing.assert_array_equal(series.levels[0].asarray(), mask)
        np.testing.assert_array_equal(series.levels[1].asarray(), mask[::2, ::2])
        image = tifffile.xml2dict(tiff.ome_metadata)["OME"]
    pixels = image["Image"]["Pixels"]
    assert (pixels["SizeX"], pixels["SizeY"]) == (625, 751)
    assert pixels["PhysicalSizeX"] == pixels["PhysicalSizeY"] == 1.0
    assert pixels["PhysicalSizeXUnit"] == "µm"
    assert (pixels["Plane"]["PositionX"], pixels["Plane"]["PositionY"]) == (250.0, 500.0)
    notes = image["StructuredAnnotations"]["MapAnnotation"]["Value"]["M"]
    said = {note["K"]: note["value"] for note in notes}
    for number, (name, color) in enumerate(zip(CLASSES, COLORS, strict=True), 1):
        assert (said[f"class {number}"], said[f"color {number}"]) == (name, color)


def test_openslide_opens_it_at_the_right_size(
    score_map: ScoreMap, mask: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "a.mask.ome.tiff"
    write_mask(path, mask, score_map)
    with openslide.OpenSlide(path) as slide:
        assert slide.dimensions == (625, 751)
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(1.0)
        shown = np.asarray(slide.read_region((8, 16), 0, (64, 48)))[..., 0]
    np.testing.assert_array_equal(shown, mask[16:64, 8:72])


def test_the_same_mask_gives_the_same_bytes(
    score_map: ScoreMap, mask: np.ndarray, tmp_path: Path
) -> None:
    paths = [tmp_path / "a.mask.ome.tiff", tmp_path / "b.mask.ome.tiff"]
    for path in paths:
        write_mask(path, mask, score_map)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert str(tmp_path).encode() not in paths[0].read_bytes()


def test_a_mask_is_read_back(score_map: ScoreMap, mask: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.mask.ome.tiff"
    write_mask(path, mask, score_map)
    found = read_mask(path)
    assert found.mpp == 1.0
    np.testing.assert_array_equal(found.levels[0], mask)
    np.testing.assert_array_equal(found.levels[1], mask[::2, ::2])
    of = SlideMask.of(mask, score_map)
    assert [level.shape for level in of.levels] == [level.shape for level in found.levels]
    assert replace(found, levels=()) == replace(of, levels=())
    assert (found.origin_px, found.slide_mpp) == ((1000, 2000), (0.25, 0.25))
    with pytest.raises(StoreError, match="No such file"):
        read_mask(tmp_path / "none.mask.ome.tiff")
    (tmp_path / "bad.mask.ome.tiff").write_bytes(path.read_bytes()[:1000])
    with pytest.raises(StoreCorruptError, match=r"bad\.mask"):
        read_mask(tmp_path / "bad.mask.ome.tiff")
    tifffile.imwrite(tmp_path / "other.tiff", mask)
    with pytest.raises(StoreCorruptError, match="no mask"):
        read_mask(tmp_path / "other.tiff")


def test_a_damaged_tile_is_told(score_map: ScoreMap, mask: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.mask.ome.tiff"
    write_mask(path, mask, score_map)
    with tifffile.TiffFile(path) as tiff:
        first, size = tiff.pages[0].dataoffsets[0], tiff.pages[0].databytecounts[0]
    damaged = bytearray(path.read_bytes())
    damaged[first : first + size] = bytes(size)
    path.write_bytes(damaged)
    with pytest.raises(StoreCorruptError, match="Score the slide again"):
        read_mask(path)


@pytest.mark.parametrize("size", [(1, 1), (3, 700), (256, 256)])
def test_masks_of_any_size(size: tuple[int, int], tmp_path: Path) -> None:
    height, width = size
    lattice = Lattice.for_bounds((0, 0, width * 4, height * 4), (0.5, 0.5), 0.5, 64)
    mask = np.arange(height * width, dtype=np.uint8).reshape(size) % 4
    path = tmp_path / "a.mask.ome.tiff"
    write_mask(path, mask, make_score_map(lattice=lattice, cells=lattice.all_cells()[:1]))
    np.testing.assert_array_equal(read_mask(path).levels[0], mask)


def test_a_canvas_is_zero_counts_its_classes_on_tissue_and_leaves_nothing(
    score_map: ScoreMap, tmp_path: Path
) -> None:
    grid = MaskGrid(score_map.lattice)
    size = (score_map.width_px, score_map.height_px)
    all_of_it = everything(*size, score_map.bounds_px)
    # Level-0 px from (1000, 2000): 4 of them a mask pixel.
    painted = np.zeros((size[1], size[0]), bool)
    painted[2000:2020, 1000:1012] = True
    part = tissue_from_mask(painted, *size)
    with mask_canvas(grid, tmp_path) as canvas:
        assert not canvas.any()
        canvas[:10, :7] = 2
        canvas[700:, :] = 3
        counted = tissue_mask_px(canvas, grid, all_of_it, CLASSES)
        assert counted == {"Stroma": 0, "Tumour": 70, "Fat": 51 * 625}
        counted = tissue_mask_px(canvas, grid, part, CLASSES)
        assert counted == {"Stroma": 0, "Tumour": 5 * 3, "Fat": 0}
    assert list(tmp_path.iterdir()) == []


def test_no_space_for_a_canvas_is_said_before_work(
    score_map: ScoreMap, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(fd: int, offset: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(publish.__globals__["os"], "posix_fallocate", full, raising=False)
    with (
        pytest.raises(NoSpaceError, match="bytes are needed"),
        mask_canvas(MaskGrid(score_map.lattice), tmp_path),
    ):
        pass


def test_masks_are_no_slides(score_map: ScoreMap, mask: np.ndarray, tmp_path: Path) -> None:
    write_mask(tmp_path / "a.mask.ome.tiff", mask, score_map)
    found = find_slides([tmp_path])
    assert found.slides == ()
    assert "earlier run" in found.passed_over[0][1]
