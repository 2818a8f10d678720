"""The metrics of a model's card as small tables of text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from xt_backend.wording import counted

__all__ = ["MetricTable", "metric_tables"]

_REGION_ONLY = "_region_only"
_WORDS = {
    "f1": "F1",
    "auroc": "AUROC",
    "iou": "IoU",
    "dice": "Dice",
    "macro_f1": "macro F1",
    "mean_dice": "mean Dice",
    "mean_iou": "mean IoU",
    "all_f1": "F1 of all",
    "all_precision": "precision of all",
    "all_recall": "recall of all",
}
_FIRST = ("f1", "auroc", "dice", "iou", "precision", "recall", "macro_f1", "mean_dice", "mean_iou")
_COUNTS = {"n_regions": "region", "n_slides": "slide", "n_px": "annotated pixel"}


@dataclass(frozen=True)
class MetricTable:
    """One group of numbers.

    Attributes:
        name: Of the group.
        columns: What the values are of; with context, and from each region alone where measured.
        rows: Name of each number and its text a column, "" where there is none.
        about: What the numbers are of; may be empty.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    about: str


def metric_tables(metrics: Mapping[str, Any]) -> Iterator[MetricTable]:
    """Every group of numbers with their intervals; whatever else there is is passed over.

    Args:
        metrics: Of a card.
    """
    for key, section in metrics.items():
        if not isinstance(section, dict) or key.endswith(_REGION_ONLY):
            continue
        other = metrics.get(key + _REGION_ONLY)
        columns = [_numbers(section)]
        if isinstance(other, dict):
            columns.append(_numbers(other))
        if columns[0]:
            yield MetricTable(
                key.replace("_", " "),
                ("with context", "region only")[: len(columns)],
                tuple((name, tuple(c.get(name, "") for c in columns)) for name in columns[0]),
                _about(section),
            )


def _numbers(section: Mapping[str, Any]) -> dict[str, str]:
    """Numbers with intervals by what they are called, classes in the order of the model."""
    found: dict[str, str] = {}
    order = list(section.get("classes") or section.get("kinds") or [])
    keys = sorted(section, key=lambda key: _FIRST.index(key) if key in _FIRST else len(_FIRST))
    for key in keys:
        value, word = section[key], _WORDS.get(key, key.replace("_", " "))
        if _is_interval(value):
            found[word] = _interval(value)
        elif isinstance(value, dict):
            names = [*(name for name in order if name in value), *(set(value) - set(order))]
            found |= {f"{word} {n}": _interval(value[n]) for n in names if _is_interval(value[n])}
    return found


def _is_interval(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict) and "value" in value


def _interval(given: Mapping[str, Any]) -> str:
    value, low, high = (given.get(name) for name in ("value", "low", "high"))
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "-"
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        return f"{value:.3f}"
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def _about(section: Mapping[str, Any]) -> str:
    known = [(key, word) for key, word in _COUNTS.items() if type(section.get(key)) is int]
    numbers = [counted(section[key], word) for key, word in known]
    parts = [" of ".join(numbers)] if numbers else []
    support = section.get("support") or section.get("n_objects")
    if isinstance(support, dict):
        parts.append(", ".join(f"{name} {count}" for name, count in support.items()))
    if section.get("resampled") in ("patients", "slides", "regions"):
        parts.append(f"95 % intervals by drawing {section['resampled']} anew")
    return "; ".join(parts)
