"""Glass is looked at on the thumbnail, and never again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.jpeg_slides import write_jpeg_slide
from support.screening import write_telling_model, write_two_tissues
from support.slides import tissue_image, write_tiff_slide

import xt_backend
from xt_backend.keys import RegionStatus
from xt_backend.slides.direct import DirectTiles
from xt_backend.slides.handle import Handle

SIDE = 1024
"""The thumbnail is the level of half the size; the model wants level 0."""
TISSUE = (260, 330, 480, 560)
MARGIN_PX = 2
COMPARED = 12
"""Tiles of a level that are decoded twice, anywhere on the slide, before a decoder is trusted."""


@pytest.fixture(scope="module")
def image() -> np.ndarray[Any, Any]:
    return tissue_image(SIDE, SIDE, (TISSUE,), seed=5)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int, int]]:
    """Every place (x0, y0, x1, y1) of level 0 that OpenSlide reads; thumbnails are small."""
    monkeypatch.setattr("xt_backend.engine.preparation.THUMBNAIL_PX", SIDE // 2)
    places: list[tuple[int, int, int, int]] = []
    plain = Handle.read

    def spy(handle: Handle, level: int, place: Any, size: Any) -> Any:
        if level == 0:
            (x, y), (width, height) = place, size
            places.append((x, y, x + width, y + height))
        return plain(handle, level, place, size)

    monkeypatch.setattr(Handle, "read", spy)
    return places


def regions(out: Path) -> np.ndarray[Any, Any]:
    """(SIDE, SIDE) bool, the selected regions and the pixels that a filter takes around them."""
    score_map = xt_backend.ScoreMap.load(out / "block.run.h5")
    inside = np.zeros((SIDE, SIDE), bool)
    for x0, y0, x1, y1 in score_map.lattice.boxes(score_map.cells).tolist():
        inside[y0 - MARGIN_PX : y1 + MARGIN_PX, x0 - MARGIN_PX : x1 + MARGIN_PX] = True
    assert 0.03 < inside.mean() < 0.3
    return inside


def test_level_0_is_read_where_regions_are(
    image: Any, read: list[Any], tiny_model: Path, tmp_path: Path
) -> None:
    slide = write_tiff_slide(tmp_path / "block.tiff", image, 1.0)
    run = xt_backend.score(slide, str(tiny_model), tmp_path / "out", use_cache=False)
    assert run.exit_code == 0
    inside = regions(tmp_path / "out")
    assert read
    assert all(inside[y0:y1, x0:x1].all() for x0, y0, x1, y1 in read)
    covered = np.zeros_like(inside)
    for x0, y0, x1, y1 in read:
        covered[y0:y1, x0:x1] = True
    x0, y0, x1, y1 = TISSUE
    assert covered[y0:y1, x0:x1].all()


def test_level_0_is_not_read_where_regions_are_screened_out(
    read: list[Any], tmp_path: Path
) -> None:
    """Nor are glass and screened-out regions looked at on a finer level than is needed."""
    write_two_tissues(tmp_path / "two.tiff", glass=4)
    write_telling_model(tmp_path / "tiny.safetensors")
    xt_backend.score(
        tmp_path / "two.tiff",
        str(tmp_path / "tiny.safetensors"),
        tmp_path / "out",
        use_cache=False,
        screen=0.9,
        screen_class=("tumour",),
    )
    score_map = xt_backend.ScoreMap.load(tmp_path / "out" / "two.run.h5")
    out = score_map.status == RegionStatus.SCREENED_OUT
    assert out.sum() > 100
    inside = np.zeros((score_map.height_px, score_map.width_px), bool)
    for x0, y0, x1, y1 in score_map.lattice.boxes(score_map.cells[~out]).tolist():
        inside[y0 - MARGIN_PX : y1 + MARGIN_PX, x0 - MARGIN_PX : x1 + MARGIN_PX] = True
    assert read
    assert all(inside[y0:y1, x0:x1].all() for x0, y0, x1, y1 in read)


def test_so_it_is_where_tiles_are_decoded_directly(
    image: Any,
    read: list[Any],
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tile, tiles = 64, []
    decode: Callable[..., bool] = DirectTiles._decode

    def spy(self: DirectTiles, file: Any, level: int, index: int, out: Any) -> bool:
        if level == 0:
            row, col = divmod(index, SIDE // tile)
            tiles.append((row * tile, col * tile))
        return decode(self, file, level, index, out)

    monkeypatch.setattr(DirectTiles, "_decode", spy)
    levels = [image, image[::2, ::2], image[::4, ::4]]
    slide = write_jpeg_slide(tmp_path / "block.tiff", levels, tile=tile, mpp=1.0)
    xt_backend.score(slide, str(tiny_model), tmp_path / "out", use_cache=False)
    inside = regions(tmp_path / "out")
    assert tiles
    assert all(inside[y : y + tile, x : x + tile].any() for y, x in tiles)
    outside = [(x0, y0) for x0, y0, x1, y1 in read if not inside[y0:y1, x0:x1].all()]
    assert len(outside) <= COMPARED
