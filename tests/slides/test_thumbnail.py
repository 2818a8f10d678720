"""The picture of a whole slide, also of a damaged one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xt_backend.errors import RegionReadError
from xt_backend.slides import open_slide

from .slide_makers import area_average, spoil_tile, texture, write_slide


def _pyramid(path: Path, width: int = 1024, height: int = 768) -> tuple[Path, np.ndarray]:
    image = texture(width, height, seed=4)
    small = area_average(image, width // 4, height // 4).round().astype(np.uint8)
    return write_slide(path / "slide.tiff", [image, small]), image


def test_shape_and_scale(tmp_path: Path) -> None:
    path, image = _pyramid(tmp_path)
    with open_slide(path) as slide:
        thumbnail = slide.thumbnail(100)
        assert thumbnail.rgb.shape == (75, 100, 3)
        assert (thumbnail.scale_x, thumbnail.scale_y) == (10.24, 10.24)
        assert thumbnail.valid.all()
        assert thumbnail.unreadable is None
        exact = area_average(image, 100, 75)
        assert np.abs(thumbnail.rgb[1:-1, 1:-1] - exact[1:-1, 1:-1]).mean() < 4
        assert slide.thumbnail(5000).rgb.shape == (768, 1024, 3), "never enlarged"
        np.testing.assert_array_equal(slide.thumbnail(1024).rgb, image)


def test_a_fitting_level_is_taken_as_it_is(tmp_path: Path) -> None:
    path, _ = _pyramid(tmp_path)
    with open_slide(path) as slide:
        thumbnail = slide.thumbnail(300)
        np.testing.assert_array_equal(thumbnail.rgb, slide.read_level(1, 0, 0, 256, 192))
        assert thumbnail.scale_x == 4


def test_another_level_stands_in_for_a_damaged_one(tmp_path: Path) -> None:
    path, _ = _pyramid(tmp_path)
    with open_slide(path) as slide:
        whole = slide.thumbnail(256)
    spoil_tile(path, 1, 1, level=1)
    with open_slide(path) as slide:
        thumbnail = slide.thumbnail(256)
    assert thumbnail.unreadable is None
    difference = np.abs(thumbnail.rgb.astype(int) - whole.rgb)
    assert difference.max() > 0
    assert difference.mean() < 2


def test_what_no_level_shows_is_marked(tmp_path: Path) -> None:
    image = texture(1024, 768, seed=4)
    path = write_slide(tmp_path / "single.tiff", [image])
    spoil_tile(path, 5, 3)
    with open_slide(path) as slide:
        thumbnail = slide.thumbnail(256)
    assert thumbnail.unreadable is not None
    rows, cols = np.nonzero(thumbnail.unreadable)
    # The tile is px 80 to 96 and 48 to 64 of the thumbnail; pieces of 8 px touch it.
    assert (rows.min(), rows.max()) >= (40, 63)
    assert cols.min() <= 80
    assert cols.max() >= 95
    assert thumbnail.unreadable.sum() <= 32 * 32
    assert thumbnail.unreadable[48:64, 80:96].all()
    assert thumbnail.valid.all()
    assert (thumbnail.rgb[thumbnail.unreadable] == 255).all()
    shown = thumbnail.rgb[~thumbnail.unreadable]
    assert (shown == 255).mean() < 0.01


def test_nothing_readable_is_an_error_found_soon(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "dead.tiff", [texture(512, 512)], tile=128)
    for row in range(4):
        for col in range(4):
            spoil_tile(path, col, row)
    with open_slide(path) as slide, pytest.raises(RegionReadError):
        slide.thumbnail(1024)
