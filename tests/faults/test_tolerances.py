"""How far other backends and precisions may be from torch in fp32; docs/safety.md states it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xt_backend import open_slide, score
from xt_backend.engine import Device
from xt_backend.engine.encoders import Way, make_backend
from xt_backend.engine.encoders.openvino_cpu import openvino_precisions
from xt_backend.engine.encoders.probing import run_through
from xt_backend.keys import FeaturesMeta, RunMeta
from xt_backend.model import load_model

CORNER = {"type": "Polygon", "coordinates": [[[0, 0], [1400, 0], [1400, 1400], [0, 1400], [0, 0]]]}


@dataclass(frozen=True)
class Within:
    """What is promised of a way to encode on the CPU.

    Attributes:
        features: How far they are off at most, over what tells regions apart.
        probabilities: How far each is off at most; None where nothing is promised.
        labels: Share of regions that keep theirs, at least.
    """

    features: float
    probabilities: float | None = None
    labels: float | None = None

    @property
    def told(self) -> str:
        """As cells of the documentation's table."""
        if self.probabilities is None or self.labels is None:
            return f"| {self.features:.1%} | | |"
        return f"| {self.features:.1%} | {self.probabilities:g} | {self.labels:.0%} |"


PROMISED = {
    Way("openvino", "fp32"): Within(0.001, 0.001, 0.99),
    Way("torch", "bf16"): Within(0.25, 0.1, 0.95),
    # Where they are this far off they are refused, so that there are no predictions.
    Way("openvino", "mixed"): Within(0.15),
    Way("openvino", "bf16"): Within(0.25),
}


@pytest.fixture(scope="module")
def sample(checkout: Path) -> Path:
    (path,) = (checkout / "sample_slides").glob("*.tiff")
    return path


@pytest.fixture(scope="module")
def pixels(sample: Path) -> np.ndarray[Any, Any]:
    """(32, R, R, 3) uint8, regions from the middle of the sample slide."""
    card = load_model("context-demo", offline=True).card
    side, mpp = card.region_px, card.model_mpp
    assert mpp is not None
    with open_slide(sample) as slide:
        found = slide.read(256, 256, 8 * side, 4 * side, mpp)
    return found.reshape(4, side, 8, side, 3).transpose(0, 2, 1, 3, 4).reshape(-1, side, side, 3)


def skip_unless_here(way: Way) -> None:
    if way.backend == "openvino":
        pytest.importorskip("openvino", reason="needs the extra cpu")
        if way.precision not in openvino_precisions():
            pytest.skip(f"this processor has no {way.precision}")


@pytest.mark.parametrize("way", PROMISED, ids=str)
def test_features_are_within_what_is_promised(way: Way, pixels: np.ndarray[Any, Any]) -> None:
    skip_unless_here(way)
    net = load_model("context-demo", offline=True).region_encoder
    device = Device("cpu", way.precision, "test")
    exact = run_through(
        make_backend(net, Device("cpu", "fp32", "test"), Way("torch", "fp32"), None), pixels
    ).astype(np.float64)
    backend = make_backend(net, device, way, None)
    told = backend.numerics()
    assert (told["backend"], told["precision"]) == (f"{way.backend}-cpu", way.precision)
    found = run_through(backend, pixels).astype(np.float64)
    spread = np.linalg.norm(exact - exact.mean(axis=0))
    assert spread > 0
    # Kernels may agree to the bit somewhere.
    assert np.linalg.norm(found - exact) / spread <= PROMISED[way].features


@pytest.fixture(scope="module")
def exact(sample: Path) -> Any:
    return scored(sample, Way("torch", "fp32"))


def scored(sample: Path, way: Way) -> Any:
    run = score(sample, "context-demo", device="cpu", precision=way.precision, use_cache=False,
                encoder_backend=way.backend, roi=CORNER)  # fmt: skip
    (found,) = run.score_maps.values()
    return found


@pytest.mark.parametrize("way", [way for way in PROMISED if PROMISED[way].labels], ids=str)
def test_predictions_are_within_what_is_promised(way: Way, sample: Path, exact: Any) -> None:
    skip_unless_here(way)
    within = PROMISED[way]
    found = scored(sample, way)
    np.testing.assert_array_equal(found.cells, exact.cells)
    n = int(exact.scored.sum())
    assert n > 50
    numerics = found.run_meta[RunMeta.FEATURES][FeaturesMeta.NUMERICS]
    assert (numerics["backend"], numerics["precision"]) == (f"{way.backend}-cpu", way.precision)
    off = np.abs(found.probabilities - exact.probabilities)[exact.scored]
    assert within.probabilities is not None
    assert within.labels is not None
    assert off.max() <= within.probabilities
    same = (found.labels() == exact.labels())[exact.scored]
    assert same.mean() >= within.labels


def test_the_documentation_says_the_same(checkout: Path) -> None:
    page = (checkout / "docs" / "safety.md").read_text(encoding="utf-8")
    for way, within in PROMISED.items():
        assert f"| CPU, {way} {within.told} the test suite |" in page
