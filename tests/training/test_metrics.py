from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn import metrics as reference

from xt_backend.training.metrics import (
    FAILED,
    auroc,
    balanced_accuracy,
    calibration_error,
    confusion_matrix,
    f1_scores,
    measure,
)

CLASSES = ("a", "b", "c")


@pytest.fixture
def case() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """True labels, probabilities with ties, predictions and slides of 400 regions."""
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 400)
    logits = rng.normal(size=(400, 3)) + 1.5 * np.eye(3)[true]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    probabilities = np.round(probabilities, 1)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return true, probabilities, probabilities.argmax(axis=1), rng.integers(0, 8, 400)


def test_agrees_with_scikit_learn(case: tuple[np.ndarray, ...]) -> None:
    true, probabilities, predicted, _ = case
    confusion = confusion_matrix(true, predicted, 3)
    assert np.array_equal(confusion[:, :3], reference.confusion_matrix(true, predicted))
    assert f1_scores(confusion) == pytest.approx(reference.f1_score(true, predicted, average=None))
    assert balanced_accuracy(confusion) == pytest.approx(
        reference.balanced_accuracy_score(true, predicted)
    )
    weights = np.random.default_rng(1).integers(0, 4, 400).astype(float)
    for label in range(3):
        assert auroc(true == label, probabilities[:, label], weights) == pytest.approx(
            reference.roc_auc_score(true == label, probabilities[:, label], sample_weight=weights)
        )


def test_calibration_error_by_hand() -> None:
    confidence = np.array([0.9, 0.9, 0.9, 0.9, 0.5, 0.5])
    correct = np.array([True, True, True, False, True, False])
    assert calibration_error(confidence, correct) == pytest.approx(4 / 6 * 0.15)
    assert calibration_error(confidence, correct, np.array([0, 0, 0, 0, 1, 1.0])) == 0.0
    assert np.isnan(calibration_error(np.zeros(0), np.zeros(0, bool)))


def test_failed_regions_are_wrong_everywhere(case: tuple[np.ndarray, ...]) -> None:
    true, probabilities, predicted, slides = case
    whole = measure(CLASSES, true, probabilities, predicted, slides, n_bootstrap=0)
    right = np.flatnonzero((predicted == true) & (true == 0))[:20]
    probabilities, predicted = probabilities.copy(), predicted.copy()
    probabilities[right], predicted[right] = np.nan, FAILED
    broken = measure(CLASSES, true, probabilities, predicted, slides, n_bootstrap=0)
    assert broken.n_failed == 20
    assert broken.confusion[0, 3] == 20
    assert broken.n_regions == whole.n_regions == broken.confusion.sum()
    assert broken.accuracy.value == pytest.approx(whole.accuracy.value - 20 / 400)
    for name in CLASSES:
        assert broken.auroc[name].value < whole.auroc[name].value
    assert broken.f1["a"].value < whole.f1["a"].value
    # A failed region of another class is no reason to call class b worse.
    assert broken.f1["b"].value == whole.f1["b"].value


def test_intervals_hold_the_value_and_shrink_with_data(case: tuple[np.ndarray, ...]) -> None:
    true, probabilities, predicted, slides = case
    few = measure(CLASSES, true[:80], probabilities[:80], predicted[:80], slides[:80])
    many = measure(CLASSES, true, probabilities, predicted, slides)
    assert many.resampled == "slides"
    assert many.n_slides == 8
    for interval in (many.macro_f1, many.auroc["b"], many.balanced_accuracy):
        assert interval.low < interval.value < interval.high
    assert few.macro_f1.high - few.macro_f1.low > many.macro_f1.high - many.macro_f1.low
    again = measure(CLASSES, true, probabilities, predicted, slides)
    assert again.macro_f1 == many.macro_f1


def test_few_slides_draw_regions(case: tuple[np.ndarray, ...]) -> None:
    true, probabilities, predicted, slides = case
    few = measure(CLASSES, true, probabilities, predicted, slides % 4, n_bootstrap=50)
    assert few.resampled == "regions"
    assert few.accuracy.low < few.accuracy.high


def test_undefined_numbers_are_null_in_json() -> None:
    """A class that never occurs has no F1, and the mean is over the others."""
    true = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.8, 0.2, 0.0]] * 2 + [[0.3, 0.7, 0.0]] * 2)
    found = measure(
        CLASSES, true, probabilities, probabilities.argmax(axis=1), np.arange(4), n_bootstrap=20
    )
    assert found.macro_f1.value == 1.0
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["f1"]["c"] == {"value": None, "low": None, "high": None}
    assert plain["auroc"]["c"]["value"] is None
    assert plain["support"] == {"a": 2, "b": 2, "c": 0}


def test_nothing_to_measure() -> None:
    empty = np.zeros(0, np.int64)
    found = measure(CLASSES, empty, np.zeros((0, 3)), empty, empty, n_bootstrap=10)
    assert found.n_regions == 0
    assert np.isnan(found.macro_f1.value)
