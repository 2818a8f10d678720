"""Stain normalisation on pictures whose stains are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.slides import tissue_image, write_tiff_slide

from xt_backend.errors import ModelError
from xt_backend.slides import (
    StainNormaliser,
    StainStats,
    average_stain,
    measure_stain,
    open_slide,
    sample_stained,
)

HAEMATOXYLIN = np.array([0.65, 0.70, 0.29])
EOSIN = np.array([0.20, 0.90, 0.38])
OTHER = (np.array([0.80, 0.60, 0.49]), np.array([0.10, 0.90, 0.63]))


def stained(
    haematoxylin: np.ndarray, eosin: np.ndarray, seed: int = 0, n: int = 20_000
) -> np.ndarray:
    """(n, 3) uint8: mixtures of two stains, some of only one, and glass."""
    rng = np.random.default_rng(seed)
    strength = rng.gamma(2.0, 0.35, (n, 2))
    strength[: n // 4, 1] *= 0.02
    strength[n // 4 : n // 2, 0] *= 0.02
    strength[-n // 10 :] = 0.0
    stains = np.stack([haematoxylin, eosin])
    stains = stains / np.linalg.norm(stains, axis=1, keepdims=True)
    return np.clip(np.rint(240 * np.exp(-strength @ stains)), 0, 255).astype(np.uint8)


def test_macenko_finds_the_stains() -> None:
    found = measure_stain("macenko", stained(HAEMATOXYLIN, EOSIN))
    assert found is not None
    stains = found.array("stains").reshape(2, 3)
    for mine, true in zip(stains, (HAEMATOXYLIN, EOSIN), strict=True):
        assert mine @ true / np.linalg.norm(true) > 0.995
    assert (found.array("strongest") > 1.0).all()


@pytest.mark.parametrize("method", ["macenko", "reinhard"])
def test_two_stainings_of_one_tissue_come_out_alike(method: str) -> None:
    one = stained(HAEMATOXYLIN, EOSIN)
    other = stained(*OTHER)
    target = measure_stain(method, one)
    assert target is not None
    before = np.abs(one.astype(float) - other).mean()
    after = StainNormaliser(measure_stain(method, other), target)(other)
    stained_only = (one < 200).all(axis=1)
    if method == "macenko":
        assert np.abs(one.astype(float) - after).mean() < before / 2
    else:
        found = measure_stain(method, after[stained_only])
        assert found is not None
        shift = np.abs(found.array("mean") - target.array("mean"))
        first = measure_stain(method, other)
        assert first is not None
        assert (shift < np.abs(first.array("mean") - target.array("mean")).max() / 2).all()
        assert np.abs(one.astype(float) - after)[stained_only].mean() < before
    # A slide that is as wanted stays nearly as it is.
    same = StainNormaliser(target, target)(one)
    assert np.abs(one.astype(float) - same).mean() < 2.0
    # Regions are normalised alike in any shape.
    assert np.array_equal(
        StainNormaliser(measure_stain(method, other), target)(other.reshape(-1, 10, 10, 3)),
        after.reshape(-1, 10, 10, 3),
    )


def test_glass_stays_glass_with_macenko() -> None:
    target = measure_stain("macenko", stained(HAEMATOXYLIN, EOSIN))
    own = measure_stain("macenko", stained(*OTHER))
    assert target is not None
    glass = np.full((4, 3), 240, np.uint8)
    assert np.abs(StainNormaliser(own, target)(glass).astype(int) - 240).max() <= 1


@pytest.mark.parametrize("method", ["macenko", "reinhard"])
def test_too_little_stain_measures_nothing(method: str) -> None:
    assert measure_stain(method, np.full((5000, 3), 240, np.uint8)) is None
    assert measure_stain(method, np.empty((0, 3), np.uint8)) is None
    assert measure_stain(method, np.full((5000, 3), 90, np.uint8)) is None
    target = measure_stain(method, stained(HAEMATOXYLIN, EOSIN))
    assert target is not None
    pixels = stained(HAEMATOXYLIN, EOSIN, seed=1, n=10)
    assert StainNormaliser(None, target)(pixels) is pixels


def test_average_of_several_slides() -> None:
    found = [measure_stain("macenko", stained(HAEMATOXYLIN, EOSIN, seed)) for seed in range(3)]
    average = average_stain([one for one in found if one is not None])
    stains = average.array("stains").reshape(2, 3)
    assert np.linalg.norm(stains, axis=1) == pytest.approx([1.0, 1.0])
    numerics = StainNormaliser(None, average).numerics()
    assert json.loads(json.dumps(numerics))["method"] == "macenko"
    assert StainStats("macenko", numerics["target"]).values == numerics["target"]


@pytest.mark.parametrize(
    ("method", "values"),
    [
        ("macenko", {"mean": (1, 1, 1), "std": (1, 1, 1)}),
        ("reinhard", {"mean": (1, 1), "std": (1, 1, 1)}),
        ("reinhard", {"mean": (1, 1, 1), "std": (1, 0, 1)}),
        ("reinhard", {"mean": (1, float("nan"), 1), "std": (1, 1, 1)}),
        ("other", {}),
    ],
)
def test_damaged_statistics_are_refused(method: str, values: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(ModelError, match="Stain statistics"):
        StainStats(method, values)


def test_sample_is_stained_and_always_the_same(tmp_path: Path) -> None:
    image = tissue_image(1024, 1024, ((256, 256, 800, 800),))
    path = write_tiff_slide(tmp_path / "s.tiff", image)
    with open_slide(path) as slide:
        thumbnail = slide.thumbnail(256)
        pixels = sample_stained(slide, thumbnail, 1.0)
        assert np.array_equal(pixels, sample_stained(slide, thumbnail, 1.0))
    assert len(pixels) > 1000
    assert (pixels.mean(axis=1) < 225).mean() > 0.5
    empty = write_tiff_slide(tmp_path / "e.tiff", tissue_image(512, 512, ()))
    with open_slide(empty) as slide:
        assert sample_stained(slide, slide.thumbnail(256), 1.0).shape == (0, 3)
