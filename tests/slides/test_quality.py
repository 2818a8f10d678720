"""Defects laid over the sample slide: what is flagged, and what is not."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage as ndi

from xt_backend.keys import Doubt
from xt_backend.slides import Lattice, Reader, find_tissue, open_slide
from xt_backend.slides.quality import MEASURES, focus_mpp, judge, measure, typical_density

SAMPLE = Path(__file__).resolve().parents[2] / "sample_slides" / "sample_5_0.tiff"
INKS = {"green": (0.12, 0.55, 0.35), "blue": (0.12, 0.30, 0.75), "black": (0.10, 0.10, 0.11)}
"""Share of the red, green and blue light that a marker pen lets through."""


@dataclass(frozen=True)
class Regions:
    """Every fourth region of a slide that is mostly tissue."""

    pixels: np.ndarray[Any, Any]
    mpp: float
    slide_mpp: float
    typical: float | None

    def flagged(self, pixels: np.ndarray[Any, Any], doubt: Doubt) -> float:
        """Share of these regions that get a doubt."""
        doubts = judge(measure(pixels, self.mpp, self.slide_mpp), self.typical)
        return float(((doubts & doubt) > 0).mean())

    def blurred(self, sigma_um: float) -> np.ndarray[Any, Any]:
        sigma = sigma_um / self.mpp
        return np.stack([ndi.gaussian_filter(one, (sigma, sigma, 0)) for one in self.pixels])

    def folded(self) -> np.ndarray[Any, Any]:
        """Each under another one, as if the section lay double."""
        other = np.roll(self.pixels, len(self.pixels) // 2, axis=0)
        double = self.pixels.astype(np.float32) * other / 242
        return double.clip(0, 255).astype(np.uint8)


@cache
def regions(path: Path, mpp: float, region_px: int) -> Regions:
    with open_slide(path) as slide:
        thumbnail, slide_mpp = slide.thumbnail(2048), slide.require_mpp()
        tissue = find_tissue(thumbnail, slide_mpp=slide_mpp.value)
        lattice = Lattice.for_bounds(
            slide.info.bounds_px, (slide_mpp.x, slide_mpp.y), mpp, region_px
        )
        cells = lattice.select(tissue.mask, tissue.scale_x, tissue.scale_y, None)
        shares = lattice.tissue_shares(tissue.mask, tissue.scale_x, tissue.scale_y, cells)
        cells = cells[shares > 0.6]
        cells = cells[:: max(1, len(cells) // 60)]
        with Reader(slide, lattice, cells, batch_size=len(cells), threads=0) as reader:
            (batch,) = reader
        typical = typical_density(thumbnail, tissue)
    return Regions(batch.pixels, mpp, slide_mpp.value, typical)


@pytest.fixture(params=[(0.75, 128), (0.5, 256)], ids=lambda value: f"{value[0]} um/px")
def sample(request: pytest.FixtureRequest) -> Regions:
    return regions(SAMPLE, *request.param)


def test_hardly_any_sharp_region_is_flagged(sample: Regions) -> None:
    for doubt in (Doubt.BLURRED, Doubt.FOLDED, Doubt.PEN):
        assert sample.flagged(sample.pixels, doubt) <= 0.03


def test_blur_is_flagged_from_2_um_on(sample: Regions) -> None:
    recall = [sample.flagged(sample.blurred(sigma), Doubt.BLURRED) for sigma in (2, 3, 4)]
    assert min(recall) >= 0.9
    assert sample.flagged(sample.blurred(0.3), Doubt.BLURRED) <= 0.03


@pytest.mark.parametrize("ink", INKS)
def test_pen_is_flagged_over_tissue_and_over_glass(sample: Regions, ink: str) -> None:
    light = np.array(INKS[ink], np.float32)
    assert sample.flagged((sample.pixels * light).astype(np.uint8), Doubt.PEN) == 1
    glass = np.full((1, 128, 128, 3), 242, np.float32)
    assert sample.flagged((glass * light).astype(np.uint8), Doubt.PEN) == 1
    # A stroke over a quarter of each region.
    part = sample.pixels.copy()
    quarter = part.shape[1] // 4
    part[:, :, :quarter] = (part[:, :, :quarter] * light).astype(np.uint8)
    assert sample.flagged(part, Doubt.PEN) >= 0.95


def test_ink_is_no_fold_as_well(sample: Regions) -> None:
    black = (sample.pixels * np.float32(0.1)).astype(np.uint8)
    assert sample.flagged(black, Doubt.FOLDED) == 0


def test_folds_on_a_real_slide(shared_data: Path) -> None:
    """Half of the folds are dark enough to be told from dense tissue; sharp tissue is not."""
    real = regions(shared_data / "her2st-slides" / "her2st_C3.tiff", 0.75, 128)
    assert real.flagged(real.folded(), Doubt.FOLDED) >= 0.5
    for doubt in (Doubt.BLURRED, Doubt.FOLDED, Doubt.PEN):
        assert real.flagged(real.pixels, doubt) <= 0.03
    assert real.flagged(real.blurred(2), Doubt.BLURRED) >= 0.9


def test_measures_are_finite_and_do_not_depend_on_the_batch(sample: Regions) -> None:
    whole = measure(sample.pixels, sample.mpp, sample.slide_mpp)
    assert whole.shape == (len(sample.pixels), len(MEASURES))
    alone = [measure(one[None], sample.mpp, sample.slide_mpp)[0] for one in sample.pixels[:5]]
    np.testing.assert_array_equal(whole[:5], alone)
    for side in (8, 9, 64, 1024):
        plain = np.full((2, side, side, 3), 200, np.uint8)
        for mpp in (0.1, 0.5, 4.0):
            assert np.isfinite(measure(plain, mpp, 0.25)).all()
    assert not judge(measure(plain, 0.5, 0.5), 0.1).any(), "bare glass is not blurred"


def test_focus_is_judged_at_about_1_um_and_never_finer_than_the_slide() -> None:
    assert [focus_mpp(mpp, 0.25) for mpp in (0.25, 0.5, 0.75, 1.0, 2.0)] == [1, 1, 0.75, 1, 2]
    assert focus_mpp(0.5, 1.6) == 1.5
    assert focus_mpp(0.75, 0.7369) == 0.75


def test_words() -> None:
    unknown = judge(np.full((1, 4), np.nan), None)
    assert [Doubt(value).label for value in (0, 1, 6, int(unknown[0]))] == [
        "good",
        "blurred",
        "folded+pen",
        "",
    ]


def test_without_stain_there_is_no_typical_density(tmp_path: Path) -> None:
    from support.slides import write_tiff_slide

    empty = write_tiff_slide(tmp_path / "empty.tiff", np.full((512, 512, 3), 240, np.uint8))
    with open_slide(empty) as slide:
        thumbnail = slide.thumbnail(512)
        assert typical_density(thumbnail, find_tissue(thumbnail, slide_mpp=0.5)) is None
