"""Confusion matrices and reliability diagrams, in colours that colour-blind people tell apart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from xt_backend.keys import DEFAULT_COLORS

from .metrics import Metrics, Reliability
from .plots import new_figure, publish_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_confusion", "plot_reliability"]

_COLORS = "cividis"  # light and dark mean the same to every eye, and in print
_MOST_NUMBERS = 16
_LONGEST_NAME = 24


def plot_confusion(heads: Mapping[str, Metrics], path: Path) -> None:
    """Draw a confusion matrix for each head: shares of the true class as colour, counts as text.

    Args:
        heads: By title.
        path: PNG file, published atomically.

    Raises:
        UsageError: matplotlib is not installed.
        OutputError: The file cannot be written.
    """
    n = max(len(metrics.classes) for metrics in heads.values())
    side = min(max(3.2, 1.6 + 0.55 * n), 14.0)
    figure = new_figure((side + 0.6) * len(heads) + 1.0, side + 1.2, "Confusion matrices")
    panels = figure.subplots(1, len(heads), squeeze=False)[0]
    image = None
    for axes, (title, metrics) in zip(panels, heads.items(), strict=True):
        counts = metrics.confusion
        columns = [_short(name) for name in metrics.classes]
        rows = [
            f"{name}\n(n = {total})"
            for name, total in zip(columns, counts.sum(axis=1), strict=True)
        ]
        if not counts[:, -1].any():
            counts = counts[:, :-1]
        else:
            columns.append("no prediction")
        total = counts.sum(axis=1, keepdims=True)
        share = np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0)
        image = axes.imshow(share, cmap=_COLORS, vmin=0.0, vmax=1.0)
        axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right")
        axes.set_yticks(range(len(rows)), rows)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        axes.set_title(f"{title}\nbalanced accuracy {metrics.balanced_accuracy.value:.3f}")
        if n <= _MOST_NUMBERS:
            _write_counts(axes, counts, share)
    if image is not None:
        figure.colorbar(image, ax=list(panels), label="share of the true class", shrink=0.8)
    publish_figure(figure, path)


def plot_reliability(heads: Mapping[str, Reliability], path: Path) -> None:
    """Draw how often the most probable class is the true one, by its probability.

    Args:
        heads: By title.
        path: PNG file, published atomically.

    Raises:
        UsageError: matplotlib is not installed.
        OutputError: The file cannot be written.
    """
    figure = new_figure(5.0, 6.2, "Reliability diagrams")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot((0, 1), (0, 1), color="0.6", linestyle="--", label="as often as it says")
    marks = ("o", "s", "^")
    for index, (title, found) in enumerate(heads.items()):
        color, mark = DEFAULT_COLORS[index], marks[index % len(marks)]
        label = f"{title}: error {found.error:.3f}"
        filled = found.count > 0
        upper.plot(
            found.confidence[filled], found.accuracy[filled], color=color, marker=mark, label=label
        )
        edges = np.linspace(0.0, 1.0, len(found.count) + 1)
        lower.stairs(found.count, edges, color=color, label=title)
    upper.set_xlim(0.0, 1.0)
    upper.set_ylim(0.0, 1.0)
    upper.set_ylabel("is the true class")
    upper.set_title("Reliability")
    lower.set_xlabel("probability of the most probable class")
    lower.set_ylabel("judged")
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    # Beneath both: curves may pass through any corner.
    figure.legend(
        *upper.get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=1
    )
    publish_figure(figure, path)


def _write_counts(
    axes: Axes, counts: npt.NDArray[np.int64], share: npt.NDArray[np.float64]
) -> None:
    for row in range(counts.shape[0]):
        for column in range(counts.shape[1]):
            color = "black" if share[row, column] > 0.5 else "white"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=color)


def _short(name: str) -> str:
    # A dollar would start a formula.
    name = name.replace("$", r"\$")
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
