"""What a run would do, found out without running it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_xt.words import as_sentences, device_words
from xt_backend.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import numpy.typing as npt

    from xt_backend.engine.events import RunPlanned
    from xt_backend.engine.spec import RunSpec
    from xt_backend.model.card import ModelCard
    from xt_backend.slides import Lattice

__all__ = ["Preview", "planned_words", "preview"]


@dataclass(frozen=True)
class Preview:
    """What a run would do.

    Attributes:
        n_regions: Regions that would be scored.
        region_um: Side of one of them.
        tissue_mm2: How much tissue lies in them; not their padding, nor the glass.
        notes: What the user should know about tissue and ROI.
    """

    n_regions: int
    region_um: float
    tissue_mm2: float
    notes: tuple[str, ...]

    def in_words(self) -> str:
        """One line for the panel."""
        if not self.n_regions:
            why = "; ".join(self.notes) or "no tissue was found"
            return as_sentences(f"nothing to score: {why}")
        regions = f"{counted(self.n_regions, 'region')} of {self.region_um:g} µm"
        return as_sentences(f"{regions}, {self.tissue_mm2:.3g} mm² of tissue", *self.notes)


def planned_words(event: RunPlanned, *, over: bool = False) -> str:
    """The same of a run that has begun, with its device and what is known already.

    Args:
        event: The run's plan.
        over: The run has ended since: what was known before it is not said any more.
    """
    score_map = event.score_map
    known = f"{event.n_cached:,} of them are known from an earlier run"
    notes = (known, *event.notes) if event.n_cached and not over else event.notes
    found = _preview(score_map.lattice, score_map.cells, score_map.tissue, notes)
    return f"{found.in_words()} {device_words(event.device, event.device_reason)}"


def _preview(
    lattice: Lattice,
    cells: npt.NDArray[np.int32],
    tissue: npt.NDArray[np.float32] | None,
    notes: Iterable[str],
) -> Preview:
    boxes = lattice.boxes(cells)
    areas_px = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    px_mm2 = lattice.slide_mpp[0] * lattice.slide_mpp[1] / 1e6
    tissue_mm2 = float((areas_px * (1.0 if tissue is None else tissue)).sum()) * px_mm2
    region_um = lattice.region_px * lattice.model_mpp
    return Preview(len(cells), region_um, tissue_mm2, tuple(notes))


def preview(spec: RunSpec, card: ModelCard) -> Preview:
    """Choose the regions as the run would.

    Raises:
        XTError: The run would fail for this reason.
    """
    from xt_backend.engine.preparation import prepare

    model_mpp = card.mpp(spec.model_mpp)
    prepared = prepare(spec.slide, model_mpp, card.scored_px, spec)
    prepared.slide.close()
    return _preview(prepared.lattice, prepared.cells, prepared.tissue_shares(), prepared.notes)
