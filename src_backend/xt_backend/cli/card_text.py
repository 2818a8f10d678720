"""A model's card for people: aligned lines, and its metrics as small tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from xt_backend.model.metric_tables import metric_tables

from .licence import encoder_licence
from .metrics import aligned

if TYPE_CHECKING:
    from xt_backend.model import ModelCard

__all__ = ["card_lines", "metric_lines"]

_LABEL = 20
_NOT_SHOWN = ("metrics", "feature_stats")
_PARTS = {
    "slide_head": ("slide",),
    "dense_head": ("dense", "detection"),
    "detection": ("detection",),
}
"""Fields that mean something for some tasks only."""


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
    tables = {table.name: table for table in metric_tables(metrics)}
    for key, section in metrics.items():
        name = key.replace("_", " ")
        if isinstance(section, int | float):
            yield f"{name:>{_LABEL}}  {_plain(section)}"
        if name not in tables:
            continue
        table = tables[name]
        yield ""
        rows = [(f"  {number}", values) for number, values in table.rows]
        yield from aligned([(name, table.columns), *rows])
        if table.about:
            yield f"  {table.about}"
