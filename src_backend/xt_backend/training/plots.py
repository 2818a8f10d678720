"""Training curves as a picture."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xt_backend.errors import UsageError
from xt_backend.keys import DEFAULT_COLORS
from xt_backend.store import publish_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["new_figure", "plot_curves", "publish_figure", "require_matplotlib"]

DPI = 120

_FEW_EPOCHS = 12


def plot_curves(
    history: Sequence[Mapping[str, float]], path: Path, best_epoch: int | None = None
) -> None:
    """Draw loss and macro F1 by epoch.

    Args:
        history: One mapping an epoch with ``epoch``, ``loss``, ``train_f1`` and, with
            validation slides, ``val_loss``, ``val_f1`` and ``val_f1_region_only``, for masks
            ``val_dice`` as well.
        path: PNG file, published atomically.
        best_epoch: Whose weights are in the model; marked.

    Raises:
        UsageError: matplotlib is not installed.
        OutputError: The file cannot be written.
    """
    figure = new_figure(9, 4.2, "Training curves")
    loss, score = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    for axes, lines, title in (
        (loss, {"loss": "training, of both heads", "val_loss": "validation"}, "Loss"),
        (
            score,
            {
                "train_f1": "training",
                "val_f1": "validation",
                "val_f1_region_only": "validation, region only",
                "val_dice": "validation, Dice of masks",
            },
            "Macro F1 and Dice" if any("val_dice" in row for row in history) else "Macro F1",
        ),
    ):
        # A line of one point cannot be seen.
        mark = "o" if len(history) < _FEW_EPOCHS else None
        for color, (key, label) in zip(DEFAULT_COLORS, lines.items(), strict=False):
            if any(key in row for row in history):
                values = [row.get(key, float("nan")) for row in history]
                axes.plot(epochs, values, color=color, label=label, marker=mark, markersize=4)
        if best_epoch is not None:
            axes.axvline(
                best_epoch, color="0.6", linestyle=":", zorder=0, label=f"kept: epoch {best_epoch}"
            )
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_title(title)
        # Beneath the axis: within it, it would hide some of the lines.
        axes.legend(
            frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, columnspacing=1
        )
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
