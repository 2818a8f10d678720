"""Two results of one slide in numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from xt_backend.keys import RunH5
from xt_backend.outputs.diff.agreement import Agreement, correlation
from xt_backend.outputs.diff.matching import Matching, match_regions, same_extent
from xt_backend.outputs.diff.pixels_and_points import PointsDiff
from xt_backend.store.score_map import ScoreMap
from xt_backend.wording import counted

__all__ = ["SlideDiff", "compare_maps"]


@dataclass(frozen=True, eq=False)
class SlideDiff:
    """How two results of a slide differ.

    Attributes:
        a: The first.
        b: The second.
        same_file: Both were made of the same pixels; None where a result does not say.
        matching: Of the regions; None where their places mean different things.
        regions: Classes of the matched regions.
        mean_abs_diff: By class of both, of the probabilities of matched regions.
        correlations: The same, Pearson's.
        pixels: Classes of the pixels, of dense models.
        points: By kind, of detection models.
        notes: What one should know of the comparison.
    """

    a: ScoreMap
    b: ScoreMap
    same_file: bool | None
    matching: Matching | None
    regions: Agreement
    mean_abs_diff: Mapping[str, float]
    correlations: Mapping[str, float]
    pixels: Agreement | None = None
    points: Mapping[str, PointsDiff] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def matched_by(self) -> str:
        """``region``, ``position`` (regions of other sizes, or of another file) or ``nothing``."""
        if self.matching is None:
            return "nothing"
        return "region" if self.matching.same_size and self.same_file else "position"

    def values(self) -> dict[str, Any]:
        """The numbers by column of ``diff.csv``; NaN where there is none."""
        matching, nan = self.matching, math.nan
        values: dict[str, Any] = {
            "same_file": {True: "yes", False: "no", None: ""}[self.same_file],
            "matched_by": self.matched_by,
            "n_compared": self.regions.total,
            "n_only_a": None if matching is None else len(matching.only_a),
            "n_only_b": None if matching is None else len(matching.only_b),
            "same_class": self.regions.same,
            "kappa": self.regions.kappa,
            "mean_abs_diff": _mean(self.mean_abs_diff),
            "correlation": _mean(self.correlations),
            "predicted_a": self.a.slide_label,
            "predicted_b": self.b.slide_label,
            "pixels_same": nan if self.pixels is None else self.pixels.same,
            "pixels_kappa": nan if self.pixels is None else self.pixels.kappa,
        }
        for name, value in self.mean_abs_diff.items():
            values[f"mean_abs_diff_{name}"] = value
            values[f"correlation_{name}"] = self.correlations[name]
        for side, score_map in (("a", self.a), ("b", self.b)):
            if score_map.task in ("region", "dense"):
                values |= {f"fraction_{k}_{side}": v for k, v in score_map.fractions().items()}
            if (found := score_map.slide_probabilities) is not None:
                named = zip(score_map.classes, found.tolist(), strict=True)
                values |= {f"prob_{name}_{side}": value for name, value in named}
        for kind, points in self.points.items():
            values[f"points_{kind}_a"] = points.n_a
            values[f"points_{kind}_b"] = points.n_b
            values[f"points_{kind}_both"] = points.n_both
        return values


def compare_maps(a: ScoreMap, b: ScoreMap) -> SlideDiff:
    """Compare regions that have a class in both, by place."""
    identities = [m.run_meta.get(RunH5.META_SLIDE_IDENTITY) for m in (a, b)]
    same_file = None if None in identities else identities[0] == identities[1]
    common = [name for name in a.classes if name in b.classes]
    notes = []
    if set(a.classes) != set(b.classes):
        shown = ", ".join(common) or "none"
        notes.append(f"the models tell other classes apart; those in both: {shown}")
    none = np.empty(0, np.intp)
    if not same_file and not same_extent(a, b):
        notes.append(
            "not the same file, and what was scanned differs in size "
            f"({_extent(a)} and {_extent(b)}): regions cannot be matched"
        )
        nothing = Agreement.of(none, none, a.classes, b.classes)
        return SlideDiff(a, b, same_file, None, nothing, {}, {}, notes=tuple(notes))
    matching = match_regions(a, b)
    notes += _about(a, b, matching, same_file)
    rows_a, rows_b = matching.rows_a, matching.rows_b
    labels = a.labels()[rows_a], b.labels()[rows_b]
    differences, correlations = {}, {}
    for name in common:
        one, other = (_probability(m, name)[r] for m, r in ((a, rows_a), (b, rows_b)))
        differences[name] = float(np.abs(one - other).mean()) if len(one) else math.nan
        correlations[name] = correlation(one, other)
    regions = Agreement.of(*labels, a.classes, b.classes)
    return SlideDiff(
        a, b, same_file, matching, regions, differences, correlations, notes=tuple(notes)
    )


def _about(a: ScoreMap, b: ScoreMap, matching: Matching, same_file: bool | None) -> list[str]:
    notes = []
    if same_file is False:
        notes.append(
            "not the same file: compared by the distance from the corner of what was scanned; "
            "the pictures are not registered"
        )
    if not matching.same_size:
        sizes = [
            f"{m.lattice.region_px * m.lattice.model_mpp:g} um every "
            f"{m.lattice.stride_px * m.lattice.model_mpp:g} um"
            for m in (a, b)
        ]
        fine, coarse = ("A", "B") if matching.a_is_finer else ("B", "A")
        notes.append(
            f"the regions differ ({sizes[0]} in A, {sizes[1]} in B): each of {fine} is compared "
            f"with the one of {coarse} at its middle"
        )
    for side, score_map in (("A", a), ("B", b)):
        if n_without := int((score_map.labels() < 0).sum()):
            notes.append(f"{counted(n_without, 'region')} of {side} without a class")
    return notes


def _probability(score_map: ScoreMap, name: str) -> npt.NDArray[np.float64]:
    """(n,) of one class."""
    values: npt.NDArray[np.float64] = score_map.probabilities[
        :, score_map.classes.index(name)
    ].astype(np.float64)
    return values


def _extent(score_map: ScoreMap) -> str:
    sides = zip(score_map.lattice.extent_px, score_map.slide_mpp, strict=True)
    return " x ".join(f"{side * mpp / 1000:.3g}" for side, mpp in sides) + " mm"


def _mean(values: Mapping[str, float]) -> float:
    known = [value for value in values.values() if math.isfinite(value)]
    return sum(known) / len(known) if known else math.nan
