"""What context is worth where it matters: every context encoder on the sample slides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import mean
from typing import TYPE_CHECKING, Any

from xt_backend.keys import DEFAULT_COLORS

from .benchmark import Benchmark, Case, Result, Workplace
from .fields import STROMA, FieldSet, load_samples
from .section import Picture, Section, Table, number, spread
from .spec import BenchSpec
from .trial import run_trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "KINDS",
    "ContextGain",
    "FullContextGain",
    "sample_recipe",
    "shared_samples",
    "stroma_f1",
]

KINDS = ("mamba2", "transformer-xl", "mamba", "attention", "hyper", "none")
LIMIT_F1, LIMIT_GAIN = 0.95, 30.0
SMALL_GAIN = 5.0


class ContextGain(Benchmark):
    """Trainings of all kinds on the same features and seeds, judged on unseen slides."""

    name = "context-gain"
    title = "What context is worth"
    has_goal = False
    """Whether the numbers wanted of the product are wanted of this recipe."""

    def recipe(self, quick: bool) -> dict[str, Any]:
        """See `Benchmark`."""
        return sample_recipe(quick)

    def cases(self, spec: BenchSpec) -> list[Case]:
        """See `Benchmark`: all kinds with one seed before any with the next."""
        return [{"context": kind, "seed": seed} for seed in range(spec.seeds) for kind in KINDS]

    def measure(self, case: Case, workplace: Workplace) -> dict[str, Any]:
        """See `Benchmark`."""
        recipe = self.recipe(workplace.spec.quick)
        fields = shared_samples(recipe, workplace)
        return run_trial(fields, {**recipe["training"], **case}, workplace.tell).to_dict()

    def section(self, results: Sequence[Result], quick: bool) -> Section:
        """See `Benchmark`."""
        recipe = self.recipe(quick)
        has_goal = self.has_goal and not quick
        by_kind = {
            kind: found
            for kind in KINDS
            if (found := [one.values for one in results if one.case["context"] == kind])
        }
        without = [stroma_f1(one["context"]) for one in by_kind.get("none", [])]
        rows = []
        for kind, found in by_kind.items():
            with_context = [stroma_f1(one["context"]) for one in found]
            alone = [stroma_f1(one["region_only"]) for one in found]
            gain = 100 * (mean(with_context) - mean(without)) if without else None
            rows.append(
                [
                    kind,
                    str(len(found)),
                    spread(with_context),
                    *(spread([one["context"]["f1"][name] for one in found]) for name in STROMA),
                    spread(alone),
                    "-" if gain is None or kind == "none" else f"{gain:+.0f}",
                    number(min(one["seconds"] for one in found) / 60, 1),
                ]
            )
        table = Table(
            (
                "context encoder",
                "seeds",
                "F1 of both stromas",
                *(f"F1 {name}" for name in STROMA),
                "region-only head",
                "points above `none`",
                "minutes, fastest seed",
            ),
            rows,
            "Mean over the seeds (least to largest)."
            + (
                f" Wanted: F1 of both at least {LIMIT_F1}, and {LIMIT_GAIN:g} points above `none`."
                if has_goal
                else ""
            ),
        )
        return Section(
            self.title,
            [
                'On the sample slides the same stroma is "reactive" when its lobule holds a '
                'tumour nest somewhere, and "normal" otherwise: a region alone cannot tell. '
                "Every context encoder is trained on the same features with the same seeds; "
                "`none` has no context at all, and every model also carries a region-only head, "
                "trained alongside. F1 of both stromas is the mean of the F1 of normal and of "
                "reactive stroma, over the regions of unseen slides. `hyper` is exact up to 4096 "
                "tokens: on slides of this size it computes what `attention` does, to rounding, "
                "over which long trainings drift apart.",
                in_words(recipe),
            ],
            [table],
            [
                Picture(
                    self.name,
                    "F1 of both stromas by context encoder, one dot a seed, beside the region-only "
                    "head of the same model",
                    lambda: _draw(by_kind, has_goal=has_goal),
                )
            ],
            list(_verdict(by_kind)),
        )


class FullContextGain(ContextGain):
    """The same with the whole recipe of `napari-xt train`."""

    name = "context-gain-full"
    title = "What context is worth, with the whole recipe"
    by_name_only = True
    has_goal = True

    def recipe(self, quick: bool) -> dict[str, Any]:
        """See `Benchmark`."""
        recipe = sample_recipe(quick)
        if not quick:
            whole = {"tokens_per_region": 2, "layers": 8, "epochs": 120, "patience": 120}
            recipe["training"] |= whole
        return recipe


def sample_recipe(quick: bool) -> dict[str, Any]:
    """Slides and settings of the trainings on sample slides."""
    training: dict[str, Any] = {
        "region_encoder": "tf_efficientnet_lite0",
        "tokens_per_region": 1,
        "layers": 4,
        "epochs": 60,
        "patience": 60,
    }
    slides, size_px = [[16, 1000], [8, 2000], [8, 3000]], 4096
    if quick:
        training |= {
            "region_encoder": "test_resnet",
            "weights": "random",
            "components": 4,
            "dim": 16,
            "layers": 2,
            "epochs": 1,
        }
        slides, size_px = [[2, 1000], [1, 2000], [1, 3000]], 2048
    return {"slides": slides, "size_px": size_px, "training": training}


def in_words(recipe: dict[str, Any]) -> str:
    """The recipe as a sentence or two."""
    (train, _), (val, _), (test, _) = recipe["slides"]
    training, side = recipe["training"], recipe["size_px"]
    k = training["tokens_per_region"]
    per_region = "one token" if k == 1 else f"{k} x {k} tokens"
    small = (
        ": a small recipe (the defaults are 8 layers, 2 x 2 tokens and 120 epochs), so that many "
        "trainings can be compared; the bundled model, made with the whole recipe, is measured "
        "further down"
        if k == 1
        else ", as the bundled model"
    )
    return (
        f"{train} training, {val} validation and {test} test slides of {side} x {side} px. "
        f"`napari-xt train` with {training['layers']} layers, {per_region} a region, at most "
        f"{training['epochs']} epochs{small}."
    )


def shared_samples(recipe: dict[str, Any], workplace: Workplace) -> FieldSet:
    """The features of the sample slides, loaded once a run."""
    key = f"samples {recipe}"
    if key not in workplace.shared:
        workplace.shared[key] = load_samples(
            workplace.folder,
            recipe["training"],
            recipe["slides"],
            recipe["size_px"],
            workplace.tell,
        )
    fields: FieldSet = workplace.shared[key]
    return fields


def stroma_f1(values: dict[str, Any]) -> float:
    """Mean of the F1 of both stromas; a class that neither occurs nor is predicted counts 0."""
    return mean(values["f1"][name] or 0.0 for name in STROMA)


def _verdict(by_kind: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """What the numbers say, in sentences."""
    scores = {
        kind: mean(stroma_f1(one["context"]) for one in found) for kind, found in by_kind.items()
    }
    if "none" not in scores or len(scores) < 2:
        return
    gains = {kind: 100 * (score - scores["none"]) for kind, score in scores.items()}
    best = max(gains, key=lambda kind: gains[kind])
    yield f"Most is gained with {best}: {gains[best]:.0f} points of F1 above `none`."
    unmoved = [kind for kind, gain in gains.items() if kind != "none" and gain < SMALL_GAIN]
    if unmoved:
        yield (
            f"Within so many epochs {', '.join(unmoved)} gained less than {SMALL_GAIN:g} points: "
            "they have not learnt to use context from these few slides, which does not say that "
            "they cannot with more."
        )


def _draw(by_kind: dict[str, list[dict[str, Any]]], *, has_goal: bool) -> Figure:
    from xt_backend.training.plots import new_figure

    figure = new_figure(8, 3.6, "Benchmarks")
    axes = figure.subplots()
    for place, found in enumerate(by_kind.values()):
        for head, offset, color, marker in (
            ("context", -0.12, DEFAULT_COLORS[4], "o"),
            ("region_only", 0.12, DEFAULT_COLORS[0], "s"),
        ):
            values = [stroma_f1(one[head]) for one in found]
            label = ("with context", "region-only head")[offset > 0] if place == 0 else None
            axes.plot([place + offset] * len(values), values, marker, color=color, label=label)
    if has_goal:
        axes.axhline(LIMIT_F1, color="0.6", linewidth=0.8, linestyle="--")
        axes.text(len(by_kind) - 0.6, LIMIT_F1 + 0.01, "wanted", color="0.4", fontsize=8)
    axes.set_xticks(range(len(by_kind)), list(by_kind))
    axes.set_ylim(0.0, 1.02)
    axes.set_ylabel("F1 of both stromas")
    axes.legend(frameon=False, loc="lower left")
    axes.spines[["top", "right"]].set_visible(False)
    return figure
