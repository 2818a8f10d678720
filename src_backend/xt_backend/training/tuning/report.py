"""What a tuning changed, for its user and for the card of the new model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from xt_backend.engine import corrected_mark
from xt_backend.keys import CardMetrics
from xt_backend.model import XT, ModelCard
from xt_backend.wording import counted

from ..judging import read_head
from .fields import CorrectedField
from .result import Change
from .spec import TuneSpec

__all__ = ["measure_change", "tuned_card"]

WARNING = (
    "Corrected by hand on some slides: what it says of these slides is no measure of how good it "
    "is. Nothing was measured on slides that it has not seen."
)


def measure_change(model: XT, fields: Sequence[CorrectedField]) -> Change:
    """Compare a tuned model with what it said before."""
    card = model.card
    before, after, true, corrected = [], [], [], []
    for one in fields:
        with torch.inference_mode():
            now = model.predict_reduced(
                torch.from_numpy(one.view.tokens), torch.from_numpy(one.view.positions_um)
            )
        before.append(read_head(one.logits, card)[1])
        after.append(read_head(now.logits.cpu().numpy(), card)[1])
        true.append(one.true)
        corrected.append(one.corrected)
    old, new, wanted = map(np.concatenate, (before, after, true))
    here = np.concatenate(corrected)

    def by_class(labels: npt.NDArray[Any]) -> dict[str, int]:
        return {name: int((labels == i).sum()) for i, name in enumerate(card.class_names)}

    def shares(labels: npt.NDArray[Any]) -> dict[str, float]:
        n = max(1, len(labels))
        return {name: round(count / n, 6) for name, count in by_class(labels).items()}

    asked = by_class(wanted[here])
    return Change(
        corrected=asked,
        right_before=by_class(wanted[here & (old == wanted)]),
        right_after=by_class(wanted[here & (new == wanted)]),
        others=int((~here).sum()),
        others_changed=int((~here & (old != new)).sum()),
        shares_before=shares(old[~here]),
        shares_after=shares(new[~here]),
    )


def tuned_card(
    parent: ModelCard, spec: TuneSpec, change: Change, fields: Sequence[CorrectedField]
) -> ModelCard:
    """The card of the new model.

    What was measured of the parent does not hold for it and is left out; its temperature and
    thresholds are kept, since corrections are too few, and not drawn at random, to fit them on.
    """
    corrected = {name: n for name, n in change.corrected.items() if n}
    listed = ", ".join(f"{name} {n}" for name, n in corrected.items())
    before, after = change.agreement
    earlier = parent.metrics.get(CardMetrics.TUNING)
    learnt = parent.training_data.strip().rstrip(".")
    text = (
        f"{learnt or 'Unknown'}. Then corrected by hand: "
        f"{counted(sum(corrected.values()), 'region')} ({listed}) of "
        f"{counted(len(fields), 'slide')}, from {parent.name}."
    )
    tuning: dict[str, Any] = {
        "parent": {"name": parent.name, "sha256": parent.state_sha256},
        CardMetrics.TUNING_SLIDES: sorted(corrected_mark(one.identity) for one in fields),
        "learns": spec.learns,
        "keep": spec.keep,
        "seed": spec.seed,
        **change.to_dict(),
        "agreement_before": round(before, 6),
        "agreement_after": round(after, 6),
        **({CardMetrics.TUNING_EARLIER: earlier} if earlier else {}),
    }
    return parent.model_copy(
        update={
            "name": spec.name or spec.out.stem,
            "training_data": text,
            "metrics": {"note": WARNING, CardMetrics.TUNING: tuning},
        }
    )
