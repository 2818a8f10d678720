"""How predictions of folds become temperature, thresholds and numbers of the card."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.models import write_tiny_model
from support.training import tiny_training

from xt_backend.model import ModelCard, read_card
from xt_backend.training import TrainSpec
from xt_backend.training.describe import _by_patient, _calibrated, _read_by_others
from xt_backend.training.judging import Judged, measure_heads


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> ModelCard:
    return read_card(write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors"))


@pytest.fixture
def spec(tmp_path: Path) -> TrainSpec:
    return tiny_training(
        tmp_path,
        tmp_path / "m.safetensors",
        folds=2,
        thresholds=("normal", "tumour"),
        threshold_goal="balanced-accuracy",
        even_patients=True,
    )


def judged(fold: int, patient: str, offset: float, n: int = 200) -> Judged:
    """Logits that tell the classes apart, but call "tumour" too often by `offset`."""
    rng = np.random.default_rng(fold)
    true = np.arange(n) % 2
    tumour = rng.normal(0, 0.5, n) + 2.0 * true - 1.0 + offset
    logits = np.stack([-tumour, tumour], axis=1).astype(np.float32) / 2
    soft = np.eye(2, dtype=np.float32)[true]
    return Judged(true, soft, logits, logits, patient=patient, fold=fold)


def test_no_fold_has_a_part_in_how_it_is_read(card: ModelCard, spec: TrainSpec) -> None:
    parts = [judged(1, "a", 2.0), judged(2, "b", 2.0)]
    stored = _calibrated(card, parts, spec)
    assert list(stored.thresholds) == ["normal"]
    assert stored.thresholds["normal"] < 0.4
    read = _read_by_others(parts, stored, spec)
    for one, other in zip(read, reversed(parts), strict=True):
        assert one.read_as is not None
        assert one.read_as.thresholds == _calibrated(card, [other], spec).thresholds
    # Alike folds help each other, unlike ones do not.
    good, _ = measure_heads(read, stored, n_bootstrap=0, seed=0)
    assert good.balanced_accuracy.value > 0.95
    unlike = [judged(1, "a", 2.0), judged(2, "b", -2.0)]
    read = _read_by_others(unlike, _calibrated(card, unlike, spec), spec)
    bad, _ = measure_heads(read, card, n_bootstrap=0, seed=0)
    assert bad.balanced_accuracy.value < 0.6


def test_a_patient_with_many_slides_counts_as_any_other(card: ModelCard, spec: TrainSpec) -> None:
    many, few = judged(1, "a", 0.0, n=2000), judged(2, "b", 1.5, n=50)
    even = _calibrated(card, [many, few], spec)
    each = spec.model_copy(update={"even_patients": False})
    plain = _calibrated(card, [many, few], each)
    assert even.thresholds["normal"] < plain.thresholds.get("normal", 0.5) - 0.05


def test_the_card_lists_patients_without_names(card: ModelCard) -> None:
    parts = [judged(1, "anna", 0.0), judged(2, "anna", 0.0), judged(3, "berta", 3.0)]
    rows = _by_patient(parts, card)
    assert [(row["n_slides"], row["n_regions"]) for row in rows] == [(2, 400), (1, 200)]
    assert rows[0]["balanced_accuracy"] > 0.95 > 0.6 > rows[1]["balanced_accuracy"]
    assert rows[1]["auroc"]["tumour"] > 0.99
    assert "anna" not in str(rows)
    assert _by_patient([judged(1, "", 0.0)], card) == []
    assert _by_patient([judged(1, f"p{n}", 0.0, 4) for n in range(21)], card) == []
