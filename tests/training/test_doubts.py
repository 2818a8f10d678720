"""What speaks against a fitted model: told where it is so, and only there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.dense import write_dense_model
from support.models import write_tiny_model

from xt_backend.model import DetectionInfo, ModelCard, read_card
from xt_backend.training.calibrate import fit_temperature
from xt_backend.training.doubts import doubts_of_labels, doubts_of_points
from xt_backend.training.judging import Judged
from xt_backend.training.pixel_judging import PointsJudged, fit_point_thresholds

N = 60


def judged(logits: Any, true: Any) -> Judged:
    logits = np.asarray(logits, np.float32)
    return Judged(np.asarray(true), np.eye(logits.shape[1], dtype=np.float32)[true], logits, logits)


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> ModelCard:
    """Two classes of regions."""
    return read_card(write_tiny_model(tmp_path_factory.mktemp("card") / "m.safetensors"))


@pytest.mark.parametrize(
    ("right", "said"), [(1.0, "lowest that is tried"), (0.7, ""), (0.0, "highest that is tried")]
)
def test_temperatures_that_end_at_a_limit_are_told(
    card: ModelCard, right: float, said: str
) -> None:
    """Always right asks for certainty, always wrong for none; in between there is a best one."""
    names = card.class_names
    true = np.arange(N) % len(names)
    called = np.where(np.arange(N) < right * N, true, (true + 1) % len(names))
    one = judged(4 * np.eye(len(names))[called], true)
    temperature = fit_temperature(one.logits, one.soft, np.ones(N))
    found = doubts_of_labels(card.model_copy(update={"temperature": temperature}), [one])
    assert [said in text for text in found] == ([True] if said else [])


def test_a_threshold_that_calls_everything_its_class_is_told(card: ModelCard) -> None:
    names = card.class_names
    true = np.arange(N) % len(names)
    one = judged(np.tile(np.linspace(1, 0, len(names)), (N, 1)), true)
    last = names[-1]
    for threshold, n in ((0.01, 1), (0.9, 0)):
        fitted = card.model_copy(update={"temperature": 1.0, "thresholds": {last: threshold}})
        found = doubts_of_labels(fitted, [one])
        assert len(found) == n
        assert all(f"the threshold of {last} came out as {threshold:g}" in text for text in found)


@pytest.fixture(scope="module")
def detection(tmp_path_factory: pytest.TempPathFactory) -> ModelCard:
    """Kinds dot and other, no thresholds."""
    folder = tmp_path_factory.mktemp("detection")
    card = read_card(write_dense_model(folder / "m.safetensors", "detection"))
    return card.model_copy(update={"detection": DetectionInfo(peak_radius_um=7.0)})


def points(scores: Any, hit: Any, n_objects: int, area_um2: float = 1e6) -> PointsJudged:
    """All of the kind dot."""
    scores = np.asarray(scores, np.float32)
    return PointsJudged(
        scores, np.zeros(len(scores), np.int32), np.asarray(hit), np.array([n_objects, 0]),
        area_um2, 7.0,
    )  # fmt: skip


def doubts(card: ModelCard, one: PointsJudged) -> list[str]:
    thresholds = fit_point_thresholds([one], card.point_kinds)
    detection = card.detection.model_copy(update={"thresholds": thresholds})
    return doubts_of_points(card.model_copy(update={"detection": detection}), [one])


def test_points_that_are_found_are_not_doubted(detection: ModelCard) -> None:
    assert doubts(detection, points(np.linspace(0.9, 0.5, N), np.arange(N) < 50, 55)) == []


def test_points_no_better_than_chance_are_told(detection: ModelCard) -> None:
    """On crowded ground a quarter of all points hits something, whatever the model has learnt."""
    rng = np.random.default_rng(0)
    crowded = points(np.linspace(0.9, 0.1, 400), rng.random(400) < 0.25, 400, 2e5)
    (said,) = doubts(detection, crowded)
    assert "dot is found hardly better than by chance: F1 0." in said
    assert crowded.by_chance([0.0, 0.0])[0] == pytest.approx(400 * 0.265, rel=0.02)
    # As many hits on wide ground are no chance.
    assert doubts(detection, points(crowded.scores, crowded.hit, 400, 1e8)) == []


def test_points_that_are_never_found_or_hardly_above_the_ground_are_told(
    detection: ModelCard,
) -> None:
    (said,) = doubts(detection, points([0.5, 0.3], [False, False], 9))
    assert "not one dot of the validation slides was found" in said
    (said,) = doubts(detection, points(np.linspace(0.03, 0.021, 9), np.ones(9, bool), 9))
    assert "stand out little from the ground" in said
    # Kinds without an object are told before training.
    assert doubts(detection, points([0.5], [False], 0)) == []
