"""What a run would do, found out without running it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_xt.plain_words import plain
from napari_xt.rates import machine_of, rate_of
from napari_xt.words import as_sentences, device_words, duration
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

FEWEST_TRIED = 20
"""A run of fewer regions takes seconds; to try it would take as long."""


@dataclass(frozen=True)
class Preview:
    """What a run would do.

    Attributes:
        n_regions: Regions that would be scored.
        region_um: Side of one of them.
        tissue_mm2: How much tissue lies in them; not their padding, nor the glass.
        notes: What the user should know about tissue and ROI.
        n_tokens: What the context encoder will see; 0 where that is not said.
        n_known: Regions that an earlier run has encoded; None where that is not said.
        regions_per_s: As the last run with its encoder did; None before there was one.
        tried: Whether that was tried on a few regions instead.
    """

    n_regions: int
    region_um: float
    tissue_mm2: float
    notes: tuple[str, ...]
    n_tokens: int = 0
    n_known: int | None = None
    regions_per_s: float | None = None
    tried: bool = False

    @property
    def asks_for_pace(self) -> bool:
        """Whether it is worth trying how quick the run would be."""
        n_new = self.n_regions - (self.n_known or 0)
        return self.regions_per_s is None and self.n_known is not None and n_new >= FEWEST_TRIED

    def in_words(self) -> str:
        """One line for the panel."""
        notes = [plain(note) for note in self.notes]
        if not self.n_regions:
            why = "; ".join(notes) or "no tissue was found"
            return as_sentences(f"nothing to score: {why}")
        regions = f"{counted(self.n_regions, 'region')} of {self.region_um:g} µm"
        said = [f"{regions}, {self.tissue_mm2:.3g} mm² of tissue", *notes]
        if self.n_tokens:
            pieces = counted(self.n_tokens, "small piece")
            said.append(f"The model looks at {pieces} of them together")
        if self.n_known is not None:
            said.append(self._time_words(self.n_known))
        return as_sentences(*said)

    def _time_words(self, n_known: int) -> str:
        n_new = self.n_regions - n_known
        if not n_new:
            return "All are known from an earlier run: this takes seconds"
        known = f"{n_known:,} are known from an earlier run; " if n_known else ""
        rest = "the others take" if n_known else "this takes"
        if self.regions_per_s is None:
            return f"{known}how long {rest} shows after the first regions"
        time = duration(n_new / self.regions_per_s)
        basis = "tried on a few regions" if self.tried else "as quick as the last run of its kind"
        return f"{known}{rest} about {time}, {basis}"


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
    from xt_backend.engine import known_regions, prepare

    model_mpp = card.mpp(spec.model_mpp)
    address = "" if spec.elsewhere is None else spec.elsewhere.address
    prepared = prepare(spec.slide, model_mpp, card.scored_px, spec)
    with prepared.slide:
        found = _preview(prepared.lattice, prepared.cells, prepared.tissue_shares(), prepared.notes)
        alone = card.context.kind == "none"
        return replace(
            found,
            n_tokens=0 if alone else found.n_regions * card.tokens_per_region**2,
            n_known=known_regions(prepared, card.region_encoder.sha256, spec.cache_dir()),
            regions_per_s=rate_of(card.region_encoder.sha256, machine_of(spec.device, address)),
        )
