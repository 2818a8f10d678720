"""Training curves as a picture."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xt_backend.errors import UsageError
from xt_backend.store import publish_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["new_figure", "plot_curves", "publish_figure", "require_matplotlib"]

DPI = 120


def plot_curves(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw loss and macro F1 by epoch.

    Args:
        history: One mapping an epoch with ``epoch``, ``loss``, ``train_f1`` and, with
            validation slides, ``val_loss``, ``val_f1`` and ``val_f1_region_only``.
        path: PNG file, published atomically.

    Raises:
        UsageError: matplotlib is not installed.
        OutputError: The file cannot be written.
    """
    figure = new_figure(9, 3.6, "Training curves")
    loss, score = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    for axes, lines, title in (
        (loss, {"loss": "training", "val_loss": "validation"}, "Loss"),
        (
            score,
            {
                "train_f1": "training",
                "val_f1": "validation",
                "val_f1_region_only": "validation, region only",
            },
            "Macro F1",
        ),
    ):
        for key, label in lines.items():
            if any(key in row for row in history):
                values = [row.get(key, float("nan")) for row in history]
                axes.plot(epochs, values, label=label)
        axes.set_xlabel("epoch")
        axes.set_title(title)
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    score.set_ylim(0.0, 1.02)
    publish_figure(figure, path)


def require_matplotlib(what: str) -> None:
    """See that pictures can be drawn.

    Args:
        what: That needs it, for the message.

    Raises:
        UsageError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError(
            f"{what} need matplotlib, which is not installed",
            "Install it with: pip install 'napari-xt[train]'",
        )


def new_figure(width: float, height: float, what: str) -> Figure:
    """An empty figure of a size in inches.

    Raises:
        UsageError: matplotlib is not installed.
    """
    require_matplotlib(what)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Figure and canvas by hand: pyplot would choose a backend for the whole process.
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def publish_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, atomically; no date and no version is in it.

    Raises:
        OutputError: The file cannot be written.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    publish_bytes(path, buffer.getvalue())
