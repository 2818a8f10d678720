from __future__ import annotations

import numpy as np
import pytest

from xt_backend.store.labels import probabilities_of, winners
from xt_backend.training.calibrate import Goal, fit_temperature, fit_threshold, fit_thresholds


@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0, 10.0])
def test_temperature_undoes_scaling(factor: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 3))
    soft = probabilities_of(logits, 1.0)
    found = fit_temperature((logits * factor).astype(np.float32), soft, np.ones(4000))
    assert found == pytest.approx(factor, rel=1e-3)


def test_temperature_ignores_what_has_no_weight() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (400, 3))
    soft, weights = probabilities_of(logits, 1.0), np.ones(400)
    logits[200:], weights[200:] = 50.0, 0.0
    assert fit_temperature(logits * 2, soft, weights) == pytest.approx(2.0, rel=1e-3)
    assert fit_temperature(logits, soft, np.zeros(400)) == 1.0


def test_a_single_class_tells_nothing_of_certainty() -> None:
    logits = np.random.default_rng(0).normal(0, 2, (40, 3))
    one = np.eye(3)[np.zeros(40, np.int64)]
    assert fit_temperature(logits, one, np.ones(40)) == 1.0
    weights = np.where(np.arange(40) < 20, 1.0, 0.0)
    assert fit_temperature(logits, np.where(weights[:, None] > 0, one, one[:, ::-1]), weights) == 1


def test_perfect_logits_stay_in_range() -> None:
    logits = np.eye(3)[np.arange(30) % 3] * 10
    assert 0.25 <= fit_temperature(logits, np.eye(3)[np.arange(30) % 3], np.ones(30)) < 0.5


def test_threshold_gives_the_best_f1() -> None:
    rng = np.random.default_rng(2)
    positive = rng.random(500) < 0.2
    probability = np.round(np.clip(rng.normal(0.3, 0.1, 500) + 0.15 * positive, 0, 1), 2)
    most_probable = probability > 0.5

    def f1(threshold: float) -> float:
        called = (probability >= threshold) | most_probable
        return 2 * (called & positive).sum() / (called.sum() + positive.sum())

    best = fit_threshold(positive, probability, most_probable)
    assert best is not None
    assert f1(best) == pytest.approx(max(f1(step) for step in np.linspace(0, 1, 1001)))
    assert f1(best) > f1(1.0)


def test_no_threshold_where_it_would_not_help() -> None:
    probability = np.array([0.9, 0.8, 0.3, 0.2])
    positive = np.array([True, True, False, False])
    assert fit_threshold(positive, probability, probability > 0.5) is None
    assert fit_threshold(np.zeros(4, bool), probability, probability > 0.5) is None
    assert fit_threshold(positive, probability, np.zeros(4, bool)) == pytest.approx(0.55)
    assert fit_threshold(np.zeros(0, bool), np.zeros(0), np.zeros(0, bool)) is None


@pytest.mark.parametrize(("offset", "kept"), [(-0.15, "b"), (0.15, "a")])
def test_of_two_classes_one_gets_the_threshold_that_balances_both(offset: float, kept: str) -> None:
    """Whichever class is called too rarely; the rule of the labels then gives what was fitted."""
    rng = np.random.default_rng(3)
    true = (rng.random(600) < 0.3).astype(int)
    b = np.clip(rng.normal(0.4, 0.1, 600) + 0.2 * true + offset, 0.01, 0.99).astype(np.float32)
    probabilities = np.stack([1 - b, b], axis=1)

    def balanced(called: np.ndarray) -> float:
        return ((called[true == 1] == 1).mean() + (called[true == 0] == 0).mean()) / 2

    found = fit_thresholds(true, probabilities, {"a": 0, "b": 1}, "balanced-accuracy")
    assert list(found) == [kept]
    thresholds = np.array([found.get(name, np.nan) for name in "ab"], np.float32)
    best = max(balanced((b >= cut).astype(int)) for cut in np.linspace(0, 1, 2001))
    assert balanced(winners(probabilities, thresholds)) == pytest.approx(best, abs=1e-6)
    assert best > balanced(probabilities.argmax(axis=1)) + 0.05


@pytest.mark.parametrize("goal", ["f1", "balanced-accuracy"])
def test_a_threshold_that_one_patient_alone_asks_for_is_not_kept_with_a_margin(goal: Goal) -> None:
    """All of one patient's probabilities lie low; the others' are right as they are."""
    rng = np.random.default_rng(4)
    groups = np.repeat(np.arange(4), 100)
    true = rng.integers(0, 2, 400)
    b = np.clip(rng.normal(0.3, 0.05, 400) + 0.4 * true, 0.01, 0.99)
    one, everyone = b.copy(), np.clip(b - 0.25, 0.01, 0.99)
    one[groups == 3] = everyone[groups == 3]

    def kept(b: np.ndarray, margin: float) -> list[str]:
        probabilities = np.stack([1 - b, b], axis=1)
        return list(
            fit_thresholds(
                true, probabilities, {"a": 0, "b": 1}, goal, groups=groups, margin=margin
            )
        )

    assert kept(one, 0.0) == ["b"]
    assert kept(one, 2.0) == []
    assert kept(everyone, 2.0) == ["b"]
