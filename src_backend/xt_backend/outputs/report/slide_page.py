"""``<id>.report.html``: what a run found on one slide."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xt_backend.keys import Doubt, RunFile, RunMeta
from xt_backend.outputs.legend import Mark, marks_of
from xt_backend.outputs.points import point_kinds
from xt_backend.outputs.report.charts import Histogram, Part, time_parts
from xt_backend.outputs.report.model_facts import ModelFacts
from xt_backend.outputs.report.page import publish_page
from xt_backend.outputs.slides_csv import SlideRow
from xt_backend.store.score_map import ScoreMap

__all__ = ["SlideFacts", "write_slide_page"]

_TIMES = {
    "seconds_encode": "region encoder",
    "seconds_context": "context and heads",
    "rest": "reading, waiting and the rest",
}


@dataclass(frozen=True)
class SlideFacts:
    """What the page of a slide shows.

    Attributes:
        row: Of slides.csv.
        score_map: Its result.
        picture: Data URI of the overlay.
        model: That made it.
        mask: Data URI of its mask, of dense models.
    """

    row: SlideRow
    score_map: ScoreMap
    picture: str
    model: ModelFacts
    mask: str = ""


@dataclass(frozen=True)
class _ClassRow:
    """A class on this slide: shares of the tissue, and regions with that label."""

    name: str
    color: str
    share: float | None
    share_alone: float | None
    n_regions: int


def write_slide_page(path: Path, facts: SlideFacts) -> None:
    """Publish the page of a slide.

    Args:
        path: Where it should go.
        facts: What it shows.

    Raises:
        OutputError: It cannot be written.
    """
    score_map, row = facts.score_map, facts.row
    has_shares = score_map.task in ("region", "dense")
    labels = score_map.labels()
    alone = score_map.region_only_probabilities
    has_alone = bool(np.isfinite(alone).any()) and not np.array_equal(
        score_map.logits, score_map.region_only_logits, equal_nan=True
    )
    labelled = (labels >= 0) & (score_map.labels(region_only=True) >= 0)
    changed = labels != score_map.labels(region_only=True)
    marks = marks_of(score_map)
    publish_page(
        path,
        "slide.html",
        row=row,
        picture=facts.picture,
        mask=facts.mask,
        model=facts.model,
        batch_link=f"./{RunFile.BATCH_REPORT}",
        partial=score_map.partial,
        notes=[str(note) for note in score_map.run_meta.get(RunMeta.NOTES, ())],
        classes=_class_rows(score_map, has_alone=has_alone),
        has_shares=has_shares,
        has_alone=has_alone,
        share_changed=float(changed[labelled].mean()) if has_alone and labelled.any() else None,
        n_labelled=int((labels >= 0).sum()),
        probabilities=_slide_probabilities(score_map),
        kinds=_kinds(score_map, row),
        histograms=[
            Histogram.of_shares(name, color, values)
            for name, color, values in zip(
                score_map.classes, score_map.colors, score_map.probabilities.T, strict=True
            )
        ],
        statuses=[
            (status.label.replace("_", " "), count)
            for status, count in score_map.status_counts().items()
            if count
        ],
        marks=[(mark.text, n) for mark in Mark if (n := int((marks == mark).sum()))],
        doubts=_doubts(score_map),
        region_um=score_map.lattice.region_px * score_map.lattice.model_mpp,
        size_mm=[
            side * mpp / 1000
            for side, mpp in zip(score_map.bounds_px[2:], score_map.slide_mpp, strict=True)
        ],
        times=_times(row),
    )


def _class_rows(score_map: ScoreMap, *, has_alone: bool) -> list[_ClassRow]:
    labels = score_map.labels()
    counts = np.bincount(labels[labels >= 0], minlength=len(score_map.classes)).tolist()
    shares = score_map.fractions()
    alone = score_map.fractions(region_only=True) if has_alone else {}
    return [
        _ClassRow(name, color, shares[name], alone.get(name), count)
        for name, color, count in zip(score_map.classes, score_map.colors, counts, strict=True)
    ]


def _slide_probabilities(score_map: ScoreMap) -> list[tuple[str, str, float]]:
    found = score_map.slide_probabilities
    if found is None or not np.isfinite(found).all():
        return []
    return list(zip(score_map.classes, score_map.colors, found.tolist(), strict=True))


def _kinds(score_map: ScoreMap, row: SlideRow) -> list[tuple[str, str, int | None]]:
    kinds = point_kinds(score_map)
    colors = score_map.colors[len(score_map.colors) - len(kinds) :]
    return [(kind, color, row.counts.get(kind)) for kind, color in zip(kinds, colors, strict=True)]


def _doubts(score_map: ScoreMap) -> list[tuple[str, int]]:
    if score_map.quality is None:
        return []
    values, counts = np.unique(score_map.quality, return_counts=True)
    pairs = zip(values.tolist(), counts.tolist(), strict=True)
    return [(Doubt(value).label or "not measured", count) for value, count in pairs]


def _times(row: SlideRow) -> list[Part]:
    total = row.seconds_total or 0.0
    known = {"seconds_encode": row.seconds_encode, "seconds_context": row.seconds_context}
    spent = sum(value or 0.0 for value in known.values())
    return time_parts({**known, "rest": max(0.0, total - spent)}, _TIMES) if total else []
