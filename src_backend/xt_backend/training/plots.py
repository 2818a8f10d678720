"""Training curves as a picture."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from xt_backend.errors import UsageError
from xt_backend.store import publish_bytes

__all__ = ["plot_curves"]

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
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError(
            "Training curves need matplotlib, which is not installed",
            "pip install 'napari-xt[train]'",
        ) from error
    # Figure and canvas by hand: pyplot would choose a backend for the whole process.
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
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
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    publish_bytes(path, buffer.getvalue())
