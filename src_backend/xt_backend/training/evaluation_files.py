"""The folder that an evaluation leaves: numbers, predictions and pictures."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from xt_backend.keys import EvaluationFile
from xt_backend.model import ModelCard
from xt_backend.outputs.text import escape_cell, visible
from xt_backend.store import make_folder, publish_bytes

from .evaluation_plots import plot_confusion, plot_reliability
from .judging import Judged, read_head
from .metrics import FAILED, Reliability, reliability
from .plots import require_matplotlib

if TYPE_CHECKING:
    from .evaluation import EvaluationReport

__all__ = ["prepare_folder", "write_evaluation"]

_REGION_ONLY = "region_only_"


def prepare_folder(folder: Path) -> None:
    """Make the folder before any work, and see that pictures can be drawn.

    Raises:
        UsageError: matplotlib is not installed.
        OutputError: The folder cannot be made.
    """
    require_matplotlib("Pictures of an evaluation")
    make_folder(folder)


def write_evaluation(folder: Path, report: EvaluationReport, card: ModelCard) -> None:
    """Write ``metrics.json``, ``predictions.csv``, ``confusion.png`` and ``reliability.png``.

    Each file is published atomically and replaces an older one.

    Args:
        folder: Exists.
        report: What was found.
        card: The model's, for classes and label rule.

    Raises:
        OutputError: A file cannot be written.
    """
    text = json.dumps(report.to_dict(), indent=2, allow_nan=False) + "\n"
    publish_bytes(folder / EvaluationFile.METRICS, text.encode())
    publish_bytes(folder / EvaluationFile.PREDICTIONS, _predictions(report, card).encode())
    heads = {"with context": report.context}
    if report.region_only is not None:
        heads["region only"] = report.region_only
    plot_confusion(heads, folder / EvaluationFile.CONFUSION)
    everything = list(report.judged.values())
    true = np.concatenate([one.true for one in everything])
    found = {"with context": _reliability([one.logits for one in everything], true, card)}
    if report.region_only is not None:
        alone = [one.region_only_logits for one in everything]
        found["region only"] = _reliability(alone, true, card)
    plot_reliability(found, folder / EvaluationFile.RELIABILITY)


def _reliability(
    logits: list[npt.NDArray[np.float32]], true: npt.NDArray[np.int64], card: ModelCard
) -> Reliability:
    probabilities, _ = read_head(np.concatenate(logits), card)
    scored = np.isfinite(probabilities).all(axis=1)
    known = probabilities[scored].astype(np.float64)
    return reliability(known.max(axis=1, initial=0.0), known.argmax(axis=1) == true[scored])


def _predictions(report: EvaluationReport, card: ModelCard) -> str:
    """One line for each region (or slide) that was judged."""
    both = report.region_only is not None
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = ["predicted", *(f"prob_{visible(name)}" for name in card.class_names)]
    writer.writerow(
        ["slide", "minx", "miny", "width", "height", "true", *columns]
        + ([_REGION_ONLY + name for name in columns] if both else [])
    )
    names = [escape_cell(name) for name in card.class_names]
    for slide, one in report.judged.items():
        parts = [_cells(one.logits, card, names)]
        if both:
            parts.append(_cells(one.region_only_logits, card, names))
        boxes = _boxes(one)
        for index, label in enumerate(one.true):
            answers = [cell for part in parts for cell in part[index]]
            writer.writerow([escape_cell(slide), *boxes[index], names[label], *answers])
    return text.getvalue()


def _boxes(one: Judged) -> list[list[str]]:
    if one.boxes is None:
        return [[""] * 4 for _ in one.true]
    return [[str(v) for v in (x0, y0, x1 - x0, y1 - y0)] for x0, y0, x1, y1 in one.boxes.tolist()]


def _cells(logits: npt.NDArray[np.float32], card: ModelCard, names: list[str]) -> list[list[str]]:
    """Predicted class and probabilities as text; empty where there is no prediction."""
    probabilities, predicted = read_head(logits, card)
    rows = []
    for row, label in zip(probabilities, predicted, strict=True):
        if label == FAILED:
            rows.append([""] * (1 + len(names)))
        else:
            rows.append([names[label], *(str(value) for value in row)])
    return rows
