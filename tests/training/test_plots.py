"""Training curves as pictures: what is drawn, read back from the figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from xt_backend.training import plots

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

    monkeypatch.setattr(plots, "publish_figure", keep)
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
