"""Which way of reading suits which context encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xt_backend.model.orders import ORDERS

from .benchmark import Benchmark, Case, Result, Workplace
from .context_gain import in_words, sample_recipe, shared_samples, stroma_f1
from .section import Section, Table, spread
from .spec import BenchSpec
from .trial import run_trial

__all__ = ["Orders"]

KINDS = ("mamba2", "transformer-xl", "mamba")
"""Context encoders that read tokens one after the other."""


class Orders(Benchmark):
    """Trainings of the kinds that read one way, along every order."""

    name = "orders"
    title = "Reading orders"

    def recipe(self, quick: bool) -> dict[str, Any]:
        """See `Benchmark`."""
        return sample_recipe(quick)

    def cases(self, spec: BenchSpec) -> list[Case]:
        """See `Benchmark`."""
        return [
            {"context": kind, "order": order, "seed": seed}
            for seed in range(spec.seeds)
            for kind in KINDS
            for order in ORDERS
        ]

    def measure(self, case: Case, workplace: Workplace) -> dict[str, Any]:
        """See `Benchmark`."""
        recipe = self.recipe(workplace.spec.quick)
        fields = shared_samples(recipe, workplace)
        options = {
            **recipe["training"],
            "context": case["context"],
            "seed": case["seed"],
            "context_options": {"order": case["order"]},
        }
        return run_trial(fields, options, workplace.tell).to_dict()

    def section(self, results: Sequence[Result], quick: bool) -> Section:
        """See `Benchmark`."""
        found: dict[tuple[str, str], list[float | None]] = {}
        for one in results:
            cell = found.setdefault((one.case["order"], one.case["context"]), [])
            cell.append(stroma_f1(one.values["context"]))
        kinds = [kind for kind in KINDS if any(kind == known for _, known in found)]
        rows = [
            [order, *(spread(found.get((order, kind), [])) for kind in kinds)] for order in ORDERS
        ]
        return Section(
            self.title,
            [
                "F1 of both stromas as above, by the order in which the layers read the tokens. "
                "The direction changes from layer to layer in all of them; `alternate` orders also "
                "exchange rows and columns. `attention` and `hyper` know no order. Seeds "
                "differ by as much as many orders do: one seed tells only large differences.",
                in_words(self.recipe(quick)),
            ],
            [
                Table(
                    ("order", *kinds),
                    rows,
                    "Mean over the seeds (least to largest) where there are several; a dash was "
                    "not measured.",
                )
            ],
        )
