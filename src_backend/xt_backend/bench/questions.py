"""How long questions about a prediction take: what if, and what did it look at."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from xt_backend.keys import FeaturesMeta, RegionStatus, RunH5, RunMeta

from .benchmark import Benchmark, Case, Result, Workplace
from .section import Section, Table, number
from .spec import BenchSpec

if TYPE_CHECKING:
    from xt_backend.engine.questions import About

__all__ = ["Questions"]

KINDS = ("transformer-xl", "mamba2", "hyper", "mamba", "attention", "none")
LIMITS = {"transformer-xl": (1.0, 2.5), "mamba2": (2.0, 5.0)}
"""Seconds of what-if and of influence at most."""
REGION_PX, MPP = 64, 1.0
SEED = 0


class Questions(Benchmark):
    """All kinds in turn, so that whatever else the machine does meets all alike."""

    name = "questions"
    title = "Questions about a prediction"

    def recipe(self, quick: bool) -> dict[str, Any]:
        """See `Benchmark`."""
        return {
            "regions": 100 if quick else 10_000,
            "dim": 24 if quick else 192,
            "layers": 2,
            "rounds": 2 if quick else 3,
            "removed": 10,
        }

    def cases(self, spec: BenchSpec) -> list[Case]:
        """See `Benchmark`: one, because ratios are only good within one run."""
        return [{}]

    def measure(self, case: Case, workplace: Workplace) -> dict[str, Any]:
        """See `Benchmark`."""
        from xt_backend.engine.questions import Influence, Respondent, WhatIf

        recipe = self.recipe(workplace.spec.quick)
        n, rounds = recipe["regions"], recipe["rounds"]
        seconds: dict[str, dict[str, float]] = {kind: {} for kind in KINDS}
        with TemporaryDirectory() as folder:
            asked = {kind: _made_up(Path(folder, kind), kind, recipe) for kind in KINDS}
            respondents = {kind: Respondent() for kind in KINDS}
            for round_ in range(rounds):
                for kind in KINDS:
                    workplace.tell(f"{kind}, round {round_ + 1} of {rounds}")
                    about, of_kind = asked[kind], seconds[kind]
                    removed = np.arange(recipe["removed"])
                    for what, question in (
                        ("what_if", WhatIf(about, removed)),
                        ("influence", Influence(about, n // 2, 1)),
                    ):
                        start = time.perf_counter()
                        respondents[kind].answer(question)
                        taken = time.perf_counter() - start
                        of_kind.setdefault("first", taken)
                        of_kind[what] = min(taken, of_kind.get(what, math.inf))
        return {"seconds": seconds}

    def section(self, results: Sequence[Result], quick: bool) -> Section:
        """See `Benchmark`."""
        recipe, seconds = self.recipe(quick), results[-1].values["seconds"]
        rows = []
        for kind in KINDS:
            what_if, influence = LIMITS.get(kind, (None, None))
            found = seconds[kind]
            rows.append(
                [
                    kind,
                    number(found["what_if"], 2),
                    number(what_if),
                    number(found["influence"], 2),
                    number(influence),
                    number(found["first"], 2),
                ]
            )
        head = (
            "context encoder",
            "what if, s",
            "at most",
            "what did it look at, s",
            "at most",
            "first question, s",
        )
        return Section(
            self.title,
            [
                f"Questions about a slide of {recipe['regions']:,} regions, one token each, "
                f"answered by a model of {recipe['layers']} layers of width {recipe['dim']} from "
                f"features in a region store. *What if* predicts again without {recipe['removed']} "
                "regions; *what did it look at* is the gradient of one region's prediction with "
                "respect to all tokens. The first question also loads the model and the features; "
                f"of the others the fastest of {recipe['rounds']} rounds counts.",
            ],
            [Table(head, rows)],
            [],
        )


def _made_up(folder: Path, kind: str, recipe: dict[str, Any]) -> About:
    """A finished run: a model of random weights, and features of noise in a store."""
    import torch

    from xt_backend.engine.questions import About
    from xt_backend.model import (
        XT,
        ClassInfo,
        ContextInfo,
        ModelCard,
        build_region_encoder,
        save_model,
    )
    from xt_backend.slides import Lattice
    from xt_backend.store import RegionStore, ScoreMap, StoreKey

    folder.mkdir()
    encoder = build_region_encoder("test_resnet", region_px=REGION_PX, weights="random")
    card = ModelCard(
        name=kind,
        classes=(ClassInfo(name="a", color="#0072b2"), ClassInfo(name="b", color="#d55e00")),
        model_mpp=MPP,
        region_px=REGION_PX,
        input_px=encoder.input_px,
        region_encoder=encoder.info,
        context=ContextInfo(kind=kind, dim=recipe["dim"], layers=recipe["layers"]),
        mean=tuple(encoder.mean.flatten().tolist()),
        std=tuple(encoder.std.flatten().tolist()),
    )
    model = XT(card, encoder, generator=torch.Generator().manual_seed(SEED)).eval()
    path = folder / "model.safetensors"
    save_model(model, path)
    n = recipe["regions"]
    side_px = REGION_PX * (math.isqrt(n - 1) + 1)
    lattice = Lattice.for_bounds((0, 0, side_px, side_px), (MPP, MPP), MPP, REGION_PX)
    cells = lattice.all_cells()[:n]
    rng = np.random.default_rng(SEED)
    features = rng.normal(size=(n, 1, encoder.dim)).astype(np.float16)
    status = np.full(n, RegionStatus.OK, np.uint8)
    numerics = {"weights": "random", "input_px": encoder.input_px}
    key = StoreKey("noise", {**lattice.to_dict(), "input_px": encoder.input_px}, numerics)
    RegionStore.open(folder, key).append(cells, features, status)
    logits = np.zeros((n, 2), np.float32)
    score_map = ScoreMap(
        slide_id="noise",
        slide_name="noise",
        width_px=side_px,
        height_px=side_px,
        bounds_px=(0, 0, side_px, side_px),
        has_bounds=False,
        slide_mpp=(MPP, MPP),
        mpp_source="made up",
        lattice=lattice,
        classes=card.class_names,
        colors=tuple(item.color for item in card.classes),
        task=card.task,
        temperature=1.0,
        thresholds={},
        cells=cells,
        status=status,
        logits=logits,
        region_only_logits=logits,
        slide_logits=None,
        partial=False,
        model_name=kind,
        model_sha256=model.card.state_sha256,
        run_meta={
            RunMeta.FEATURES: {FeaturesMeta.NUMERICS: numerics},
            RunH5.META_SLIDE_IDENTITY: "noise",
        },
    )
    return About(score_map, str(path), folder, device="cpu")
