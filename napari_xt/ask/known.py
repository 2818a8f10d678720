"""What was asked and found out about one result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_xt.ask.form import View

if TYPE_CHECKING:
    from napari_xt.ask.asked_layers import AskedLayers
    from xt_backend.engine.questions import InfluenceMap, SpreadMap
    from xt_backend.store import ScoreMap

__all__ = ["Known"]


class Known:
    """What was asked and found out about one result.

    Args:
        score_map: The prediction of the run.
        layers: Show the answers.

    Attributes:
        row: The region that is chosen, as a row of the score map.
        influence: What a prediction looked at.
        spread: How steady the prediction is.
        view: What lies over the slide.
        words: The last answer.
    """

    def __init__(self, score_map: ScoreMap, layers: AskedLayers) -> None:
        self.score_map = score_map
        self.layers = layers
        self.row: int | None = None
        self.influence: InfluenceMap | None = None
        self.spread: SpreadMap | None = None
        self.view = View.CLASSES
        self.words = ""
