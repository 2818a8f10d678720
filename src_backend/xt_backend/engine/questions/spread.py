"""How much a prediction depends on how the slide lies on the glass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from xt_backend.model import XT
from xt_backend.store.labels import probabilities_of, winners

from .asked import Spread, SpreadMap
from .stopping import stoppable
from .stored import StoredField
from .views import VIEWS, seen_from

__all__ = ["spread"]


def spread(
    model: XT, field: StoredField, question: Spread, cancelled: Callable[[], bool]
) -> SpreadMap:
    """Predict again with the slide turned and mirrored in all 8 ways, and compare.

    Args:
        model: In eval mode.
        field: The regions that were predicted together.
        question: The prediction.
        cancelled: Asked between two layers.

    Raises:
        Stopped: It was cancelled.
    """
    score_map = question.about.score_map
    thresholds = np.array(
        [score_map.thresholds.get(name, np.nan) for name in score_map.classes], np.float32
    )
    labels = score_map.labels()[field.rows]
    place = np.arange(len(field.rows))
    total = np.zeros((len(field.rows), len(score_map.classes)))
    own, own_squared, agreeing = (np.zeros(len(field.rows)) for _ in range(3))
    for view in VIEWS:
        tokens, places_um = seen_from(field.tokens, field.positions_um, view)
        with torch.inference_mode(), stoppable(model.context, cancelled):
            logits = model.predict_reduced(tokens, places_um).logits.cpu().numpy()
        probabilities = probabilities_of(logits, score_map.temperature)
        total += probabilities
        own += probabilities[place, labels]
        own_squared += probabilities[place, labels].astype(np.float64) ** 2
        agreeing += winners(probabilities, thresholds) == labels
    n_views = len(VIEWS)
    mean = own / n_views
    deviation = np.sqrt(np.clip(own_squared / n_views - mean**2, 0, None))
    return SpreadMap(
        probabilities=_spread_out(total / n_views, field, len(score_map)),
        deviation=_spread_out(deviation, field, len(score_map)),
        agreement=_spread_out(agreeing / n_views, field, len(score_map)),
        n_views=n_views,
    )


def _spread_out(
    values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], field: StoredField, n: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Values of the field's regions at their rows, NaN elsewhere."""
    out = np.full((n, *values.shape[1:]), np.nan, np.float32)
    out[field.rows] = values
    return out
