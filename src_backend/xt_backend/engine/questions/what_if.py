"""What would be predicted without some regions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from xt_backend.errors import UsageError
from xt_backend.keys import RegionStatus, RunMeta
from xt_backend.model import XT

from .asked import Repredicted, WhatIf
from .stopping import stoppable
from .stored import StoredField

__all__ = ["what_if"]

_OF_THE_PIXELS = (RunMeta.TISSUE_MASK_PX, RunMeta.MASK_PX, RunMeta.N_POINTS)
"""What a run tells of its pixels, which are not made again."""


def what_if(
    model: XT, field: StoredField, question: WhatIf, cancelled: Callable[[], bool]
) -> Repredicted:
    """Predict again from the stored tokens, without some regions.

    They leave the sequence as if they had never been selected; the others keep their places.

    Args:
        model: In eval mode.
        field: The regions that were predicted together.
        question: Which of them go.
        cancelled: Asked between two layers.

    Raises:
        UsageError: There is no such row, or no region would be left.
        Stopped: It was cancelled.
    """
    score_map = question.about.score_map
    removed = np.unique(question.removed)
    if len(removed) and not 0 <= removed[0] <= removed[-1] < len(score_map):
        raise UsageError("A region to leave out is not in the prediction", "Ask again")
    stays = ~np.isin(field.rows, removed)
    if not stays.any():
        raise UsageError("No region would be left", "Leave fewer of them out")
    places = torch.from_numpy(stays)
    with torch.inference_mode(), stoppable(model.context, cancelled):
        found = model.predict_reduced(field.tokens[places], field.positions_um[places])
    status, logits = score_map.status.copy(), np.full_like(score_map.logits, np.nan)
    status[removed] = RegionStatus.LEFT_OUT
    logits[field.rows[stays]] = found.logits.cpu().numpy()
    slide = found.slide_logits
    meta = {key: value for key, value in score_map.run_meta.items() if key not in _OF_THE_PIXELS}
    return Repredicted(
        replace(
            score_map,
            status=status,
            logits=logits,
            slide_logits=None if slide is None else slide.cpu().numpy(),
            run_meta={**meta, RunMeta.LEFT_OUT: len(removed)},
        )
    )
