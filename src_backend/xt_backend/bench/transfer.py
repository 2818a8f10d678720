"""A model on a slide ten times larger than those that it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xt_backend.training import EvaluateSpec, Progress, evaluate

from .benchmark import Benchmark, Case, Result, Workplace
from .fields import CLASSES, STROMA
from .section import Section, Table, number
from .slides import sample_slides
from .spec import BenchSpec

__all__ = ["MODEL", "Transfer"]

MODEL = "context-demo"
TRAINED_PX = 4096


class Transfer(Benchmark):
    """The bundled model on unseen sample slides of the size of its training, and larger."""

    name = "transfer"
    title = "A slide ten times larger than those trained on"

    def recipe(self, quick: bool) -> dict[str, Any]:
        """See `Benchmark`."""
        return {"model": MODEL, "seed": 4000}

    def cases(self, spec: BenchSpec) -> list[Case]:
        """See `Benchmark`: as much tissue of one size as of the other."""
        if spec.quick:
            return [{"size_px": 1024, "n": 1}, {"size_px": 1536, "n": 1}]
        return [{"size_px": TRAINED_PX, "n": 8}, {"size_px": 12960, "n": 1}]

    def measure(self, case: Case, workplace: Workplace) -> dict[str, Any]:
        """See `Benchmark`."""
        work, tell = workplace.folder, workplace.tell
        seed = self.recipe(workplace.spec.quick)["seed"]
        slides = sample_slides(work, case["n"], case["size_px"], seed, tell)

        def on_slide(progress: Progress) -> None:
            tell(f"encoding and scoring, slide {progress.done + 1} of {progress.total}")

        spec = EvaluateSpec(
            model=MODEL, slides=slides, compare_context=True, bootstrap=0, cache=work / "regions"
        )
        report = evaluate(spec, on_slide)
        heads = {"context": report.context, "region_only": report.region_only}
        return {
            "regions": report.context.n_regions,
            **{
                name: {key: value.value for key, value in one.f1.items()}
                for name, one in heads.items()
                if one is not None
            },
        }

    def section(self, results: Sequence[Result], quick: bool) -> Section:
        """See `Benchmark`."""
        rows = []
        for one in sorted(results, key=lambda result: int(result.case["size_px"])):
            side, n = one.case["size_px"], one.case["n"]
            for name, head in (("with context", "context"), ("region only", "region_only")):
                found = one.values[head]
                rows.append(
                    [
                        f"{n} of {side} x {side} px, {name}",
                        number((side / TRAINED_PX) ** 2, 1),
                        str(one.values["regions"]),
                        *(number(found[key], 3) for key in CLASSES),
                        number(_stroma_f1(one, head), 3),
                    ]
                )
        return Section(
            self.title,
            [
                f"The bundled model `{MODEL}`, trained on 16 sample slides of {TRAINED_PX} x "
                f"{TRAINED_PX} px, on unseen ones of that size and on one of about ten times the "
                "area, all of whose regions are one field. Positions are shifted, turned and laid "
                "side by side in training, so that no slide's size is learnt.",
            ],
            [
                Table(
                    (
                        "slides",
                        "area, x of training",
                        "regions",
                        *(f"F1 {key}" for key in CLASSES),
                        "F1 of both stromas",
                    ),
                    rows,
                )
            ],
            after=[_verdict(results)] if len(results) > 1 else [],
        )


def _stroma_f1(result: Result, head: str) -> float:
    found = result.values[head]
    return sum(found[key] or 0.0 for key in STROMA) / len(STROMA)


def _verdict(results: Sequence[Result]) -> str:
    """What the numbers say."""
    by_size = sorted(results, key=lambda result: int(result.case["size_px"]))
    before, after = (_stroma_f1(one, "context") for one in (by_size[0], by_size[-1]))
    alone = _stroma_f1(by_size[-1], "region_only")
    return (
        f"From the small to the large slide the F1 of both stromas changes by "
        f"{100 * (after - before):+.0f} points with context; there it is "
        f"{100 * (after - alone):.0f} points above the region-only head."
    )
