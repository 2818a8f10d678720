"""The pyramidal TIFF writer."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openslide
import pytest
import tifffile

from xt_backend.errors import UsageError
from xt_backend.samples import write_pyramid, write_pyramid_array
from xt_backend.samples.pyramid import level_sizes


def _picture(width: int, height: int) -> npt.NDArray[np.uint8]:
    """Smooth colours, so that JPEG keeps them."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 200 // width, y * 200 // height, (x + y) % 64 + 100], -1).astype(np.uint8)


def test_openslide_reads_back_what_was_written(tmp_path: Path) -> None:
    path, picture = tmp_path / "a.tiff", _picture(1500, 1100)
    picture[..., 2] = 120
    write_pyramid_array(path, picture, mpp=(0.5, 0.25))
    with openslide.OpenSlide(path) as slide:
        assert slide.detect_format(path) == "generic-tiff"
        assert slide.level_dimensions == ((1500, 1100), (375, 275))
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.5)
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(0.25)
        assert slide.properties["openslide.level[0].tile-width"] == "256"
        read = np.asarray(slide.read_region((0, 0), 0, (1500, 1100)))
        assert (read[..., 3] == 255).all()
        assert np.abs(read[..., :3].astype(int) - picture).max() <= 6
        small = np.asarray(slide.read_region((0, 0), 1, (375, 275)))[..., :3]
        exact = picture[:1100].reshape(275, 4, 375, 4, 3).mean(axis=(1, 3))
        assert np.abs(small - exact).max() <= 6


def test_the_file_names_the_product_and_nothing_else(tmp_path: Path) -> None:
    write_pyramid_array(tmp_path / "a.tiff", _picture(600, 600))
    with tifffile.TiffFile(tmp_path / "a.tiff") as tiff:
        for page in tiff.pages:
            texts = {tag.name: tag.value for tag in page.tags if isinstance(tag.value, str)}
            assert texts == {"Software": "napari-xt"}


@pytest.mark.parametrize("heights", [[700], [1] * 700, [256, 256, 188], [300, 399, 1]])
def test_strips_of_any_height_give_the_same_file(tmp_path: Path, heights: list[int]) -> None:
    picture = _picture(530, 700)
    write_pyramid_array(tmp_path / "whole.tiff", picture)
    cuts = np.split(picture, np.cumsum(heights)[:-1])
    write_pyramid(tmp_path / "strips.tiff", cuts, 530, 700)
    assert (tmp_path / "whole.tiff").read_bytes() == (tmp_path / "strips.tiff").read_bytes()


@pytest.mark.parametrize(
    "strips",
    [
        [np.zeros((400, 512, 3), np.uint8)],
        [np.zeros((300, 512, 3), np.uint8)] * 2,
        [np.zeros((512, 500, 3), np.uint8)],
        [],
    ],
)
def test_strips_of_another_size_are_refused(
    tmp_path: Path, strips: list[npt.NDArray[np.uint8]]
) -> None:
    with pytest.raises(UsageError, match="512 x 512"):
        write_pyramid(tmp_path / "a.tiff", strips, 512, 512)


def test_levels_go_down_to_512_px() -> None:
    assert level_sizes(4096, 4096) == ((4096, 4096), (1024, 1024), (256, 256))
    assert level_sizes(2050, 1000) == ((2050, 1000), (512, 250))
    assert level_sizes(512, 300) == ((512, 300),)
    assert level_sizes(100_000, 9) == ((100_000, 9), (25_000, 2))
    assert level_sizes(2048, 2048, factor=2) == ((2048, 2048), (1024, 1024), (512, 512))


def test_memory_does_not_grow_with_the_height(tmp_path: Path) -> None:
    def peak(height: int) -> int:
        def strips() -> Iterator[npt.NDArray[np.uint8]]:
            for _ in range(height // 512):
                yield np.full((512, 1024, 3), 200, np.uint8)

        tracemalloc.start()
        try:
            write_pyramid(tmp_path / "a.tiff", strips(), 1024, height)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(512)  # what is loaded on first use is not the picture's
    assert peak(16384) < 1.2 * peak(2048)
