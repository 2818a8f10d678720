"""What did a prediction look at: the gradient of its logit with respect to all tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xt_backend.errors import ModelError
from xt_backend.model import XT
from xt_backend.store import ScoreMap

from .asked import Influence, InfluenceMap
from .stopping import Stopped, stoppable
from .stored import StoredField
from .views import VIEWS, seen_from

__all__ = ["half_influence_um", "influence", "margin_gradient"]

_MOVED = 0.01
"""Less than this did context not take from a class."""

_TOKENS_AT_MOST = 16384
"""Over all views; one view is made of any slide."""

_SPREAD_APART = (0, 7, 3, 4, 1, 6, 2, 5)
"""The views in an order in which the first few read the slide as differently as can be."""


def influence(
    model: XT, field: StoredField, question: Influence, cancelled: Callable[[], bool]
) -> InfluenceMap:
    """How much each region's tokens move the prediction that is asked about.

    The gradient of the logit of a class, less that of the class which the surroundings spoke
    against most (where they changed nothing, the next likely one), is taken with respect to the
    tokens. Nothing is detached, so that it shows all that the context encoder can see. Times
    the region's whitened tokens it is about how far each of their channels moves the prediction
    away from what average tissue in that place would give; the norm over them is the influence.

    One gradient also shows in which order the tokens were read. So it is averaged over as many of
    the 8 ways to lay the slide on the glass as take no longer than one view of a large slide;
    what cannot be seen as the slide lies stays unseen.

    In long fields memory is that of one layer at a time: the layers are computed twice.

    Args:
        model: In eval mode.
        field: The regions that were predicted together.
        question: The class and the region, or the slide.
        cancelled: Asked between two layers.

    Raises:
        ModelError: The region was not scored, or the model says nothing of whole slides.
        Stopped: It was cancelled.
    """
    score_map, row, index = question.about.score_map, question.row, question.class_index
    place = None if row is None else field.place_of(row)
    rival = _rival(score_map, row, index)
    n_views = int(np.clip(_TOKENS_AT_MOST // field.tokens[..., 0].numel(), 1, len(VIEWS)))
    total, seen = torch.zeros_like(field.tokens), torch.ones(0)
    for number in range(n_views):
        gradient = margin_gradient(
            model, field, place, (index, rival), VIEWS[_SPREAD_APART[number]], cancelled
        )
        if number == 0:
            seen = gradient.flatten(1).norm(dim=1) > 0
        total += gradient / n_views
    strength = (total * field.tokens).flatten(1).norm(dim=1) * seen
    values = np.full(len(score_map), np.nan, np.float32)
    values[field.rows] = strength.numpy()
    return InfluenceMap(
        row=row,
        class_index=index,
        rival_index=rival,
        values=values,
        half_um=float("nan")
        if place is None
        else half_influence_um(values[field.rows], field.positions_um.numpy(), place),
        reach_tokens=model.context.reach_tokens,
        tokens_per_region=model.card.tokens_per_region**2,
    )


def _rival(score_map: ScoreMap, row: int | None, index: int) -> int | None:
    """Rather than which class: the one that context spoke against most, else the next likely.

    Raises:
        ModelError: The model says nothing of whole slides.
    """
    if row is None:
        joint = alone = score_map.slide_probabilities
    else:
        joint, alone = score_map.probabilities[row], score_map.region_only_probabilities[row]
    if joint is None or alone is None:
        raise ModelError("This model says nothing of the slide as a whole", "Ask about a region")
    others = np.delete(np.arange(len(joint)), index)
    if not len(others):
        return None
    lost = alone[others] - joint[others]
    weight = lost if lost.max(initial=0.0) > _MOVED else joint[others]
    return int(others[weight.argmax()])


def margin_gradient(
    model: XT,
    field: StoredField,
    place: int | None,
    classes: tuple[int, int | None],
    view: tuple[bool, bool, bool],
    cancelled: Callable[[], bool],
) -> Tensor:
    """The gradient of one logit less another with respect to all tokens.

    Args:
        model: In eval mode, none of its weights asks for gradients.
        field: The regions that were predicted together.
        place: The region's place in the field; None for the slide's logits.
        classes: Index of the class, and of the one whose logit is taken off, if any.
        view: How the slide lies, one of `VIEWS`.
        cancelled: Asked between two layers.

    Returns:
        (m, k * k, width) float32 on the CPU, as the field's tokens.

    Raises:
        Stopped: It was cancelled.
    """
    tokens = field.tokens.to(model.device).clone().requires_grad_()
    with torch.enable_grad(), stoppable(model.context, cancelled):
        found = model.predict_reduced(*seen_from(tokens, field.positions_um, view))
        logits = cast("Tensor", found.slide_logits) if place is None else found.logits[place]
        asked, rival = classes
        margin = logits[asked] if rival is None else logits[asked] - logits[rival]
        if cancelled():
            raise Stopped
        (gradient,) = torch.autograd.grad(margin, tokens)
    return gradient.cpu()


def half_influence_um(
    values: npt.NDArray[np.float32], places_um: npt.NDArray[np.float64], place: int
) -> float:
    """Radius from within which half of the influence of all other regions comes.

    Args:
        values: (m,) influence of each region.
        places_um: (m, 2) their centres.
        place: The region itself, which does not count.

    Returns:
        um; NaN where no other region has any influence.
    """
    others = np.arange(len(values)) != place
    distances = np.linalg.norm(places_um - places_um[place], axis=1)[others]
    order = distances.argsort(kind="stable")
    total = values[others][order].astype(np.float64).cumsum()
    if not len(total) or not total[-1] > 0:
        return float("nan")
    return float(distances[order][np.searchsorted(total, total[-1] / 2)])
