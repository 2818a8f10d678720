"""What a screening at low resolution saves, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xt_backend.batch import score
from xt_backend.keys import RegionStatus, RunMeta, ScreeningMeta
from xt_backend.store import ScoreMap

from .benchmark import Benchmark, Case, Result, Workplace
from .section import Section, Table, number
from .slides import sample_slides
from .spec import BenchSpec
from .transfer import MODEL

__all__ = ["Screening", "recalls"]

CLASSES = ("reactive", "nest")
_CORNER = {"type": "Polygon", "coordinates": [[[0, 0], [999, 0], [999, 999], [0, 0]]]}


class Screening(Benchmark):
    """The bundled model on a sample slide, looking at everything and screening it first."""

    name = "screening"
    title = "Screening at low resolution"

    def __init__(self) -> None:
        self._full: tuple[ScoreMap, float] | None = None

    def recipe(self, quick: bool) -> dict[str, Any]:
        """See `Benchmark`."""
        # The slide that `transfer` makes.
        return {
            "model": MODEL,
            "classes": list(CLASSES),
            "size_px": 1024 if quick else 12960,
            "seed": 4000,
        }

    def cases(self, spec: BenchSpec) -> list[Case]:
        """See `Benchmark`."""
        return [{"recall": 0.95}, {"recall": 0.9}, {"recall": 0.8}]

    def measure(self, case: Case, workplace: Workplace) -> dict[str, Any]:
        """See `Benchmark`."""
        recipe, tell = self.recipe(workplace.spec.quick), workplace.tell
        slides = sample_slides(workplace.folder, 1, recipe["size_px"], recipe["seed"], tell)
        if self._full is None:
            _scored(slides, roi=_CORNER)  # what is done once in a process is timed in neither
            tell("looking at everything")
            self._full = _scored(slides)
        full, seconds = self._full
        tell(f"screening for a recall of {case['recall']}")
        found, seconds_screened = _scored(slides, screen=case["recall"], screen_class=CLASSES)
        alone, final = recalls(full, found, CLASSES)
        told = found.run_meta[RunMeta.SCREENING]
        return {
            "regions": len(full),
            "positive": float(_positive(full, CLASSES, region_only=True).mean()),
            "drawn": told[ScreeningMeta.DRAWN] / len(full),
            "screened_out": told[ScreeningMeta.SHARE],
            "bound": told[ScreeningMeta.BOUND],
            "recall": alone,
            "recall_in_context": final,
            "seconds": {"full": seconds, "screened": seconds_screened},
        }

    def section(self, results: Sequence[Result], quick: bool) -> Section:
        """See `Benchmark`."""
        recipe, one = self.recipe(quick), results[0].values
        rows = [
            [
                f"{result.case['recall']:g}",
                _percent(result.values["drawn"]),
                _percent(result.values["screened_out"]),
                number(result.values["bound"], 3),
                number(result.values["recall"], 3),
                number(result.values["recall_in_context"], 3),
                number(result.values["seconds"]["screened"] / result.values["seconds"]["full"]),
            ]
            for result in sorted(results, key=lambda result: -result.case["recall"])
        ]
        return Section(
            self.title,
            [
                f"{recipe['model']} on a sample slide of {recipe['size_px']} x "
                f"{recipe['size_px']} px with {one['regions']:,} regions, "
                f"{_percent(one['positive'])} of which it takes for {' or '.join(CLASSES)} by "
                "each alone; `--screen` with these two classes against looking at everything, "
                "nothing stored before. The bound is what the run promises with 95 % confidence "
                "of the regions that are positive by each alone; the next two columns are what "
                "came out, for these and for those that are positive in context when everything "
                "is looked at, of which nothing is promised. Time is that of the slide, from "
                "opening to the last score.",
            ],
            [
                Table(
                    (
                        "recall asked for",
                        "drawn",
                        "screened out",
                        "bound",
                        "recall alone",
                        "recall in context",
                        "x the time",
                    ),
                    rows,
                )
            ],
        )


def recalls(full: ScoreMap, screened: ScoreMap, classes: Sequence[str]) -> tuple[float, float]:
    """Shares of what is positive when everything is looked at that a screening has looked at.

    Args:
        full: Of a run that looked at everything.
        screened: The same slide, screened.
        classes: What was sought.

    Returns:
        Of the regions that are positive by each alone, and in context; 1 where there is none.
    """
    seen = screened.status != RegionStatus.SCREENED_OUT
    shares = []
    for region_only in (True, False):
        positive = _positive(full, classes, region_only=region_only)
        shares.append(float(seen[positive].mean()) if positive.any() else 1.0)
    return shares[0], shares[1]


def _positive(score_map: ScoreMap, classes: Sequence[str], *, region_only: bool) -> Any:
    wanted = [score_map.classes.index(name) for name in classes]
    return np.isin(score_map.labels(region_only=region_only), wanted)


def _scored(slides: Path, **options: Any) -> tuple[ScoreMap, float]:
    run = score(slides, MODEL, use_cache=False, encoder_backend="torch", **options)
    (row,) = run.rows
    if row.seconds_total is None:
        raise RuntimeError(row.reason)
    return run.score_map(row.id), row.seconds_total


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
