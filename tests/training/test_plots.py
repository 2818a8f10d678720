"""Training curves as pictures: what is drawn, read back from the figure."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from xt_backend.training import evaluation_plots, plots
from xt_backend.training.metrics import Reliability

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures as they are published."""
    figures: list[Figure] = []
    publish = plots.publish_figure

    def keep(figure: Figure, path: Path) -> None:
        figures.append(figure)
        publish(figure, path)

    for module in (plots, evaluation_plots):
        monkeypatch.setattr(module, "publish_figure", keep)
    return figures


def row(epoch: int, **more: float) -> dict[str, float]:
    return {"epoch": epoch, "loss": 1 / epoch, "train_f1": 0.5, **more}


def test_a_single_epoch_can_be_seen(drawn: list[Figure], tmp_path: Path) -> None:
    plots.plot_curves(
        [row(1, val_loss=0.9, val_f1=0.4, val_f1_region_only=0.3)], tmp_path / "a.png"
    )
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.format == "PNG"
    lines = [line for axes in drawn[0].axes for line in axes.lines]
    assert len(lines) == 5
    assert all(line.get_marker() == "o" for line in lines)


def test_the_kept_epoch_is_marked_and_dice_drawn(drawn: list[Figure], tmp_path: Path) -> None:
    history = [row(epoch, val_loss=1.0, val_f1=0.4, val_dice=0.6) for epoch in range(1, 31)]
    plots.plot_curves(history, tmp_path / "a.png", best_epoch=17)
    loss, score = drawn[0].axes
    for axes in (loss, score):
        names = [text.get_text() for text in axes.get_legend().get_texts()]
        assert "kept: epoch 17" in names
        assert list(axes.lines[-1].get_xdata()) == [17, 17]
        assert axes.lines[0].get_marker() == "None"
        assert all(float(tick).is_integer() for tick in axes.get_xticks())
    assert "validation, Dice of masks" in names


def test_no_legend_lies_over_the_lines(drawn: list[Figure], tmp_path: Path) -> None:
    """Wherever they go: as good as never sure and always right, and the other way round."""
    history = [row(n, val_loss=1 / n, val_f1=0.4, val_f1_region_only=0.3) for n in range(1, 31)]
    plots.plot_curves(history, tmp_path / "a.png", best_epoch=29)
    middles = np.linspace(0.02, 0.98, 15)
    heads = {
        name: Reliability(np.full(15, 20.0), middles, accuracy, 0.1)
        for name, accuracy in (("with context", middles**4), ("region only", middles**0.1))
    }
    evaluation_plots.plot_reliability(heads, tmp_path / "b.png")
    assert len(drawn) == 2
    for figure in drawn:
        figure.canvas.draw()
        legends = [
            one for one in (*(ax.get_legend() for ax in figure.axes), *figure.legends) if one
        ]
        assert legends
        page = figure.bbox
        for legend in legends:
            box = legend.get_window_extent()
            assert not any(box.overlaps(ax.get_window_extent()) for ax in figure.axes)
            words = [ax.xaxis.get_tightbbox() for ax in figure.axes]
            assert not any(box.overlaps(one) for one in words if one is not None)
            assert page.x0 <= box.x0
            assert box.x1 <= page.x1
            assert page.y0 <= box.y0
        for one, other in pairwise(legends):
            assert not one.get_window_extent().overlaps(other.get_window_extent())
