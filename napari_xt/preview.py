"""What a run would do, found out without running it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_xt.words import device_words
from xt_backend.wording import counted

if TYPE_CHECKING:
    from xt_backend.engine.events import RunPlanned
    from xt_backend.engine.spec import RunSpec
    from xt_backend.model.card import ModelCard

__all__ = ["Preview", "planned_words", "preview"]


@dataclass(frozen=True)
class Preview:
    """What a run would do.

    Attributes:
        n_regions: Regions that would be scored.
        region_um: Side of one of them.
        area_mm2: What they cover together.
        notes: What the user should know about tissue and ROI.
    """

    n_regions: int
    region_um: float
    area_mm2: float
    notes: tuple[str, ...]

    def in_words(self) -> str:
        """One line for the panel."""
        if not self.n_regions:
            why = "; ".join(self.notes) or "no tissue was found"
            return f"Nothing to score: {why}."
        regions = counted(self.n_regions, "region")
        line = f"{regions} of {self.region_um:g} µm, {self.area_mm2:.3g} mm²"
        return f"{line}. {'; '.join(self.notes)}." if self.notes else f"{line}."


def planned_words(event: RunPlanned) -> str:
    """The same of a run that has begun, with its device and what is known already."""
    lattice = event.score_map.lattice
    region_um = lattice.region_px * lattice.model_mpp
    known = f"{event.n_cached:,} of them are known from an earlier run"
    notes = (known, *event.notes) if event.n_cached else event.notes
    found = Preview(event.n_regions, region_um, _area_mm2(event.n_regions, region_um), notes)
    return f"{found.in_words()} {device_words(event.device, event.device_reason)}"


def _area_mm2(n_regions: int, region_um: float) -> float:
    return n_regions * (region_um / 1000) ** 2


def preview(spec: RunSpec, card: ModelCard) -> Preview:
    """Choose the regions as the run would.

    Raises:
        XTError: The run would fail for this reason.
    """
    from xt_backend.engine.preparation import prepare

    model_mpp = card.mpp(spec.model_mpp)
    prepared = prepare(spec.slide, model_mpp, card.scored_px, spec)
    prepared.slide.close()
    region_um = model_mpp * card.scored_px
    count = len(prepared.cells)
    return Preview(count, region_um, _area_mm2(count, region_um), tuple(prepared.notes))
