"""One label a field: context and class token against gated attention over regions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from xt_backend.training.augment import View
from xt_backend.training.fields import LabelledField
from xt_backend.training.labels import LabelledSlide

from .benchmark import Benchmark, Case, Result, Workplace
from .context_gain import in_words, sample_recipe, shared_samples
from .fields import STROMA, FieldSet
from .section import Section, Table, spread
from .spec import BenchSpec
from .trial import run_trial

__all__ = ["SlideGain"]

MODELS = (
    ("none", "attention-mil"),
    ("mamba2", "attention-mil"),
    ("transformer-xl", "attention-mil"),
    ("attention", "attention-mil"),
    ("transformer-xl", "class-token"),
    ("attention", "class-token"),
)
"""Context encoder and slide head; the first is the field's baseline."""


class SlideGain(Benchmark):
    """Crops of the sample slides, each with one label, on the features of `ContextGain`."""

    name = "slide-gain"
    title = "One label a field: context against attention-MIL"

    def recipe(self, quick: bool) -> dict[str, Any]:
        """See `Benchmark`."""
        return {
            **sample_recipe(quick),
            "crop_regions": 3 if quick else 9,
            "step_regions": 2 if quick else 6,
            # Of the stroma that is normal or reactive; in between a crop has no label.
            "clear_share": 0.5 if quick else 0.6,
            "epochs": 1 if quick else 20,
        }

    def cases(self, spec: BenchSpec) -> list[Case]:
        """See `Benchmark`."""
        return [
            {"context": kind, "head": head, "seed": seed}
            for seed in range(spec.seeds)
            for kind, head in MODELS
        ]

    def measure(self, case: Case, workplace: Workplace) -> dict[str, Any]:
        """See `Benchmark`."""
        recipe = self.recipe(workplace.spec.quick)
        samples = shared_samples(sample_recipe(workplace.spec.quick), workplace)
        key = f"crops {recipe}"
        if key not in workplace.shared:
            workplace.shared[key] = _cropped(samples, recipe)
        fields: FieldSet = workplace.shared[key]
        options = {
            **recipe["training"],
            "epochs": recipe["epochs"],
            "task": "slide",
            "labels": workplace.folder,
            "context": case["context"],
            "slide_head": case["head"],
            "seed": case["seed"],
        }
        counts = [len(part) for part in (fields.train, fields.val, fields.test)]
        share = mean(int(one.true[0]) for one in fields.test)
        trial = run_trial(fields, options, workplace.tell)
        return {**trial.to_dict(), "crops": counts, "share_reactive": share}

    def section(self, results: Sequence[Result], quick: bool) -> Section:
        """See `Benchmark`."""
        recipe = self.recipe(quick)
        training = {**recipe["training"], "epochs": recipe["epochs"]}
        rows = []
        for kind, head in MODELS:
            found = [
                one.values
                for one in results
                if (one.case["context"], one.case["head"]) == (kind, head)
            ]
            if not found:
                continue
            row = [kind, head, str(len(found))]
            for name in ("context", "region_only"):
                row.append(spread([one[name]["auroc"][STROMA[1]] for one in found]))
            row.append(spread([one["context"]["balanced_accuracy"] for one in found]))
            rows.append(row)
        first = results[0].values
        side, clear = recipe["crop_regions"], 100 * recipe["clear_share"]
        train, val, test = first["crops"]
        return Section(
            self.title,
            [
                f'Crops of {side} x {side} regions of the same slides; a crop is "reactive" when '
                f'at least {clear:g} % of its two stromas is reactive, "normal" when as much is '
                f"normal, and left out in between: {train} crops for training, {val} for "
                f"validation, {test} for the test ({100 * first['share_reactive']:.0f} % of them "
                "reactive). `none` with `attention-mil` is the field's baseline: gated attention "
                "over regions that do not see each other. The other column is the mean of what "
                "the regions say by themselves.",
                in_words({**recipe, "training": training}),
            ],
            [
                Table(
                    (
                        "context encoder",
                        "head",
                        "seeds",
                        "AUROC",
                        "AUROC, mean of regions alone",
                        "balanced accuracy",
                    ),
                    rows,
                    "Mean over the seeds (least to largest).",
                )
            ],
            after=list(_verdict(results)),
        )


def _verdict(results: Sequence[Result]) -> Iterator[str]:
    """Where context helps and where it does not, under the same head."""
    scores: dict[str, dict[str, float]] = {}
    for kind in dict(MODELS):
        found = [
            one.values["context"]
            for one in results
            if (one.case["context"], one.case["head"]) == (kind, "attention-mil")
        ]
        if found:
            scores[kind] = {
                "AUROC": mean(one["auroc"][STROMA[1]] for one in found),
                "balanced accuracy": mean(one["balanced_accuracy"] for one in found),
            }
    baseline = scores.pop("none", None)
    if baseline is None or not scores:
        return
    for name, without in baseline.items():
        better = [kind for kind, values in scores.items() if values[name] > without]
        worse = [kind for kind in scores if kind not in better]
        parts = (("higher", better), ("not higher", worse))
        told = "; ".join(f"{how} with {', '.join(kinds)}" for how, kinds in parts if kinds)
        yield f"Against attention-MIL without context, the {name} is {told}."


def _cropped(samples: FieldSet, recipe: dict[str, Any]) -> FieldSet:
    parts = [
        [crop for one in fields for crop in _crops(one, samples.pitch_um, recipe)]
        for fields in (samples.train, samples.val, samples.test)
    ]
    colors = samples.colors[: len(STROMA)]
    return replace(
        samples, train=parts[0], val=parts[1], test=parts[2], classes=STROMA, colors=colors
    )


def _crops(one: LabelledField, pitch_um: float, recipe: dict[str, Any]) -> Iterator[LabelledField]:
    """Squares of regions with enough stroma of one kind to have a label."""
    view, side = one.view, recipe["crop_regions"]
    cells = np.round((view.positions_um - view.positions_um.min(axis=0)) / pitch_um).astype(int)
    for row in range(0, int(cells[:, 1].max()) + 1, recipe["step_regions"]):
        for col in range(0, int(cells[:, 0].max()) + 1, recipe["step_regions"]):
            corner = np.array([col, row])
            inside = ((cells >= corner) & (cells < corner + side)).all(axis=1)
            stroma = (view.soft[inside] * view.weights[inside, None])[:, : len(STROMA)].sum(axis=0)
            # Less than a region's worth of stroma in a quarter of the crop says too little.
            if stroma.sum() < side * side / 8:
                continue
            true = np.array([int(stroma.argmax())])
            if stroma[true[0]] < recipe["clear_share"] * stroma.sum():
                continue
            soft = np.eye(len(STROMA), dtype=np.float32)[true]
            crop = View(
                view.tokens[inside], view.positions_um[inside], soft, np.ones(1, np.float32)
            )
            slide = LabelledSlide(Path(f"{one.name} {col},{row}"), STROMA[true[0]])
            yield LabelledField(slide, crop, true)
