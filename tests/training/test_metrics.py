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
    quadratic_kappa,
    reliability,
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


def test_one_slide_of_the_slide_task_has_no_interval() -> None:
    """Drawn from itself it would always look certain."""
    probabilities = np.array([[0.8, 0.1, 0.1]])
    found = measure(CLASSES, np.array([0]), probabilities, np.array([0]), np.array([0]))
    assert found.resampled == "slides"
    assert found.accuracy.value == 1.0
    assert np.isnan(found.accuracy.low)


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


def test_the_mean_is_over_the_classes_that_occur() -> None:
    """Of two heads on the same regions neither gains by naming a class that is not there."""
    true = np.array([0, 0, 0, 0, 1, 1])
    predicted = np.array([0, 0, 0, 2, 1, 1])
    found = measure(CLASSES, true, np.eye(3)[predicted], predicted, np.arange(6), n_bootstrap=20)
    assert found.f1["c"].value == 0.0
    assert found.macro_f1.value == pytest.approx((6 / 7 + 1.0) / 2)
    assert found.macro_f1.value == pytest.approx(
        reference.f1_score(true, predicted, labels=[0, 1], average="macro")
    )


def test_nothing_to_measure() -> None:
    empty = np.zeros(0, np.int64)
    found = measure(CLASSES, empty, np.zeros((0, 3)), empty, empty, n_bootstrap=10)
    assert found.n_regions == 0
    assert np.isnan(found.macro_f1.value)


# --- ordered classes ---------------------------------------------------------------------------


def test_quadratic_kappa_agrees_with_scikit_learn(case: tuple[np.ndarray, ...]) -> None:
    true, probabilities, predicted, slides = case
    expected = reference.cohen_kappa_score(true, predicted, weights="quadratic")
    assert quadratic_kappa(confusion_matrix(true, predicted, 3)) == pytest.approx(expected)
    found = measure(CLASSES, true, probabilities, predicted, slides, ordered=True, n_bootstrap=200)
    kappa = found.quadratic_kappa
    assert kappa is not None
    assert kappa.value == pytest.approx(expected)
    assert kappa.low < kappa.value < kappa.high
    assert found.to_dict()["quadratic_kappa"] == kappa.to_dict()
    plain = measure(CLASSES, true, probabilities, predicted, slides, n_bootstrap=0)
    assert plain.quadratic_kappa is None
    assert "quadratic_kappa" not in plain.to_dict()


def test_a_failed_region_is_the_worst_answer_for_kappa() -> None:
    true = np.array([0, 1, 2, 2, 0, 1])
    right = quadratic_kappa(confusion_matrix(true, true, 3))
    assert right == 1.0
    failed, near, far = true.copy(), true.copy(), true.copy()
    failed[2], near[2], far[2] = FAILED, 1, 0
    by_failure, by_near, by_far = (
        quadratic_kappa(confusion_matrix(true, answer, 3)) for answer in (failed, near, far)
    )
    assert by_failure == by_far < by_near < 1
    assert np.isnan(quadratic_kappa(confusion_matrix(np.zeros(3, int), np.zeros(3, int), 3)))
    assert np.isnan(quadratic_kappa(np.zeros((3, 4))))


# --- patients and reliability ------------------------------------------------------------------


def test_patients_are_drawn_whole(case: tuple[np.ndarray, ...]) -> None:
    """Slides of one patient that are all right or all wrong say less than they seem to."""
    rng = np.random.default_rng(3)
    patients = np.repeat(np.arange(8), 50)
    slides = np.arange(400) // 10
    true = rng.integers(0, 3, 400)
    predicted = np.where(patients % 2 == 0, true, (true + 1) % 3)
    probabilities = np.eye(3)[predicted]
    by_slide = measure(CLASSES, true, probabilities, predicted, slides)
    by_patient = measure(CLASSES, true, probabilities, predicted, slides, patients=patients)
    assert (by_slide.resampled, by_patient.resampled) == ("slides", "patients")
    widths = [found.accuracy.high - found.accuracy.low for found in (by_slide, by_patient)]
    assert widths[1] > 1.5 * widths[0]
    few = measure(CLASSES, true, probabilities, predicted, slides, patients=patients % 3)
    assert few.resampled == "slides"


def test_reliability_holds_the_numbers_behind_the_error() -> None:
    confidence = np.array([0.95, 0.97, 0.96, 0.41, 1.0])
    correct = np.array([True, False, True, False, True])
    found = reliability(confidence, correct)
    assert found.count.sum() == 5
    assert found.count[-1] == 4
    assert found.confidence[-1] == pytest.approx(0.97)
    assert found.accuracy[-1] == pytest.approx(0.75)
    assert found.accuracy[6] == 0.0
    assert np.isnan(found.accuracy[0])
    assert found.error == pytest.approx(calibration_error(confidence, correct))
    filled = found.count > 0
    gap = np.abs(found.confidence - found.accuracy)[filled] * found.count[filled]
    assert gap.sum() / 5 == pytest.approx(found.error)
