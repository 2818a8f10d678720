"""A model's card for people: aligned lines, and its metrics as small tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

from xt_backend.wording import counted

from .licence import encoder_licence

if TYPE_CHECKING:
    from xt_backend.model import ModelCard

__all__ = ["card_lines", "metric_lines"]

_LABEL = 20
_NAME = 26
_COLUMN = 24
_REGION_ONLY = "_region_only"
_NOT_SHOWN = ("metrics", "feature_stats")
_PARTS = {
    "slide_head": ("slide",),
    "dense_head": ("dense", "detection"),
    "detection": ("detection",),
}
"""Fields that mean something for some tasks only."""

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


def card_lines(card: ModelCard) -> Iterator[str]:
    """The card line by line; what only a program reads is left out."""
    hidden = {*_NOT_SHOWN, *(part for part, tasks in _PARTS.items() if card.task not in tasks)}
    fields = card.model_dump(mode="json", exclude=hidden, exclude_none=True)
    fields["encoder licence"] = encoder_licence(card)
    for name, value in fields.items():
        for number, text in enumerate(_texts(value)):
            label = name.replace("_", " ") if number == 0 else ""
            yield f"{label:>{_LABEL}}  {text}"
    yield from metric_lines(card.metrics)
    yield f"{'':>{_LABEL}}  --json prints all of it, the recipe of the training too."


def _texts(value: Any) -> list[str]:
    """A value as one or more lines."""
    if isinstance(value, dict):
        parts = [(key, item) for key, item in value.items() if item not in (None, "", {}, [])]
        width = max((len(key) for key, _ in parts), default=0)
        lines = [f"{key.replace('_', ' '):<{width}}  {_plain(item)}" for key, item in parts]
        return lines or ["-"]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        width = max(len(str(item.get("name", ""))) for item in value)
        return [
            "  ".join([f"{item.get('name', ''):<{width}}", *_others(item)]).rstrip()
            for item in value
        ]
    return [_plain(value)]


def _others(item: Mapping[str, Any]) -> list[str]:
    return [_plain(value) for key, value in item.items() if key != "name"]


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(_plain(item) for item in value) or "-"
    if isinstance(value, float):
        return f"{value:.5g}"
    return "-" if value in (None, "") else str(value)


def metric_lines(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Every group of numbers as a table; with context and from each region alone side by side.

    Args:
        metrics: Of a card; whatever is no number with its interval is passed over.
    """
    if isinstance(note := metrics.get("note"), str):
        yield f"{'metrics':>{_LABEL}}  {note}"
    training = metrics.get("training")
    if isinstance(training, dict) and "best_epoch" in training:
        done = f" of {training['epochs_done']}" if "epochs_done" in training else ""
        yield f"{'best epoch':>{_LABEL}}  {training['best_epoch']}{done}"
    for key, section in metrics.items():
        if isinstance(section, int | float):
            yield f"{key.replace('_', ' '):>{_LABEL}}  {_plain(section)}"
        if not isinstance(section, dict) or key.endswith(_REGION_ONLY):
            continue
        other = metrics.get(key + _REGION_ONLY)
        columns = [_numbers(section)]
        if isinstance(other, dict):
            columns.append(_numbers(other))
        if not columns[0]:
            continue
        titles = ("with context", "region only")[: len(columns)]
        yield ""
        yield _line(key.replace("_", " "), list(titles))
        for name in columns[0]:
            yield _line(f"  {name}", [column.get(name, "") for column in columns])
        if about := _about(section):
            yield f"  {about}"


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
    """What the numbers are of."""
    known = [(key, word) for key, word in _COUNTS.items() if type(section.get(key)) is int]
    numbers = [counted(section[key], word) for key, word in known]
    parts = [" of ".join(numbers)] if numbers else []
    support = section.get("support") or section.get("n_objects")
    if isinstance(support, dict):
        parts.append(", ".join(f"{name} {count}" for name, count in support.items()))
    if section.get("resampled") in ("patients", "slides", "regions"):
        parts.append(f"95 % intervals by drawing {section['resampled']} anew")
    return "; ".join(parts)


def _line(name: str, values: list[str]) -> str:
    return (f"{name:<{_NAME}}" + "".join(f"{value:<{_COLUMN}}" for value in values)).rstrip()
