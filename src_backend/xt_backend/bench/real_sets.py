"""The same comparison on real labelled histology, each part held out once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import mean
from typing import Any

import numpy as np
import torch

from xt_backend.engine import BatchEncoder, choose_device
from xt_backend.errors import InputNotFoundError
from xt_backend.keys import DEFAULT_COLORS
from xt_backend.model import XT, build_region_encoder, find_model, read_card
from xt_backend.training import Metrics, TrainSpec
from xt_backend.training.augment import View
from xt_backend.training.cached import judge_fields
from xt_backend.training.describe import first_card
from xt_backend.training.fields import LabelledField
from xt_backend.training.judging import Judged, measure_heads

from .benchmark import Benchmark, Case, Result, Workplace
from .context_gain import KINDS
from .fields import FieldSet, whitening_of
from .labelled_images import SETS, EncodedImage, ImageSet, classes_of, encode, find_sets
from .section import Section, Table, spread
from .spec import BenchSpec
from .trial import run_trial

__all__ = ["RealSets"]


class RealSets(Benchmark):
    """Every kind on images that the user has, in cross-validation."""

    name = "real-sets"
    title = "Real labelled histology"

    def recipe(self, quick: bool) -> dict[str, Any]:
        """See `Benchmark`."""
        training: dict[str, Any] = {
            "region_encoder": "tf_efficientnet_lite0",
            "tokens_per_region": 1,
            "components": 16,
            "dim": 32,
            "layers": 2,
            "epochs": 30,
        }
        if quick:
            training |= {
                "region_encoder": "test_resnet",
                "weights": "random",
                "components": 4,
                "dim": 16,
                "layers": 1,
                "epochs": 1,
            }
        return {"training": training}

    def missing(self, spec: BenchSpec) -> str | None:
        """See `Benchmark`.

        Raises:
            InputNotFoundError: The folder is named and not there.
        """
        if spec.data is None:
            return "it needs real labelled images: --data, see docs/bench.md"
        if not spec.data.is_dir():
            raise InputNotFoundError(f"There is no folder {spec.data}", "Check --data")
        if not find_sets(spec.data):
            return f"{spec.data.name} holds none of the sets that docs/bench.md names"
        return None

    def cases(self, spec: BenchSpec) -> list[Case]:
        """See `Benchmark`."""
        found = find_sets(spec.data) if spec.data is not None else {}
        return [
            {"set": name, "context": kind, "seed": seed}
            for seed in range(spec.seeds)
            for name in found
            for kind in KINDS
        ]

    def measure(self, case: Case, workplace: Workplace) -> dict[str, Any]:
        """See `Benchmark`."""
        how = next(one for one in SETS if one.name == case["set"])
        recipe = self.recipe(workplace.spec.quick)
        options = {
            **recipe["training"],
            "model_mpp": how.model_mpp,
            "region_px": how.region_px,
            "task": how.task,
            "context": case["context"],
            "seed": case["seed"],
        }
        if how.task == "slide":
            options |= {"labels": workplace.folder, "slide_head": "attention-mil"}
        key = f"{how.name} {recipe}"
        if key not in workplace.shared:
            workplace.shared[key] = list(_folds(how, options, workplace))
        folds: list[FieldSet] = workplace.shared[key]
        judged: list[Judged] = []
        seconds = 0.0
        for number_, fields in enumerate(folds, start=1):

            def tell(message: str, number_: int = number_) -> None:
                workplace.tell(f"part {number_} of {len(folds)}, {message}")

            trial = run_trial(fields, options, tell)
            judged += judge_fields(trial.model, fields.test)
            seconds += trial.seconds
        both = measure_heads(judged, trial.model.card, n_bootstrap=0, seed=0)
        return {
            "seconds": round(seconds, 1),
            "images": len(judged),
            "regions": sum(len(one.true) for one in judged),
            "context": _numbers(both[0]),
            "region_only": _numbers(both[1]),
        }

    def section(self, results: Sequence[Result], quick: bool) -> Section:
        """See `Benchmark`."""
        tables = []
        for how in SETS:
            here = [one for one in results if one.case["set"] == how.name]
            if not here:
                continue
            rows = []
            for kind in KINDS:
                found = [one.values for one in here if one.case["context"] == kind]
                if not found:
                    continue
                row = [kind, str(len(found))]
                for head in ("context", "region_only"):
                    for what in ("auroc", "balanced_accuracy"):
                        row.append(spread([one[head][what] for one in found]))
                rows.append(row)
            first = here[0].values
            tables.append(
                Table(
                    (
                        f"{how.name}: context encoder",
                        "seeds",
                        "AUROC",
                        "balanced accuracy",
                        "AUROC, region only",
                        "balanced accuracy, region only",
                    ),
                    rows,
                    f"{how.about} {first['images']} images, {first['regions']} judged.",
                )
            )
        tables.append(_bundled())
        return Section(
            self.title,
            [
                "No gain from context is to be expected here: the images are few and small, and "
                "what a region is can be seen in the region. This shows what context costs where "
                "it has nothing to give. For tiles the head is gated attention-MIL, so that `none` "
                "is the field's baseline, and region only is the mean of what the regions say. "
                "AUROC of several classes is the mean of one against the rest. Everything is "
                "predicted by a model that has not seen its part of the data.",
            ],
            tables,
        )


def _bundled() -> Table:
    """What the card of `breast-demo` says of the areas, each predicted by a model without it."""
    card = read_card(find_model("breast-demo"))
    by_patient: Any = card.metrics["cross_validation_by_patient"]
    rows = []
    for place, one in enumerate(by_patient, start=1):
        cells = (one["auroc"]["tumour"], one["balanced_accuracy"])
        rows.append([str(place), str(one["n_regions"]), *(f"{cell:.2f}" for cell in cells)])
    stored = card.thresholds.get("tumour", 0.5)
    return Table(
        (
            "`breast-demo`: area left out",
            "regions",
            "AUROC (at least 0.88)",
            "balanced accuracy (at least 0.75)",
        ),
        rows,
        "From the model card of `breast-demo`, whose encoder was trained along: two BCSS areas, "
        "each predicted by a model that was trained without it; a region is tumour when more than "
        f"half of it is. AUROC, and balanced accuracy at the stored threshold, {stored:g}. "
        "docs/breast-demo.md says how little two areas are.",
    )


def _numbers(metrics: Metrics) -> dict[str, Any]:
    known = [one.value for one in metrics.auroc.values() if one.value == one.value]
    return {
        "auroc": mean(known) if known else None,
        "balanced_accuracy": metrics.balanced_accuracy.value,
        "macro_f1": metrics.macro_f1.value,
    }


def _folds(how: ImageSet, options: dict[str, Any], workplace: Workplace) -> Iterator[FieldSet]:
    """The set divided once for every fold, whitened by what is learnt from."""
    data = workplace.spec.data
    if data is None:
        raise InputNotFoundError("There are no images", "Give their folder with --data")
    images = find_sets(data)[how.name]
    classes = classes_of(images)
    colors = tuple(DEFAULT_COLORS[number % len(DEFAULT_COLORS)] for number in range(len(classes)))
    spec = TrainSpec(slides=data, out=data, classes=classes, **options)
    region_encoder = build_region_encoder(
        spec.region_encoder,
        region_px=spec.region_px,
        tokens_per_region=spec.tokens_per_region,
        weights=spec.weights,
    )
    region_encoder.round_to_half()
    device = choose_device(spec.device, spec.precision)
    encoded = encode(images, how, BatchEncoder(region_encoder, device), workplace.tell)
    card = first_card(spec, classes, colors, region_encoder)
    for fold in sorted({one.fold for one in encoded}):
        model = XT(card, region_encoder)
        learnt = [torch.from_numpy(one.features) for one in encoded if one.fold != fold]
        model.reduce.fit_whitening(torch.cat(learnt))
        white = [(one.fold == fold, _field(one, model.reduce.to("cpu").whiten)) for one in encoded]
        yield FieldSet(
            train=[one for held_out, one in white if not held_out],
            val=(),
            test=[one for held_out, one in white if held_out],
            classes=classes,
            colors=colors,
            pitch_um=how.region_px * how.model_mpp,
            encoder=region_encoder,
            whitening=whitening_of(model),
        )


def _field(one: EncodedImage, whiten: Callable[[torch.Tensor], torch.Tensor]) -> LabelledField:
    with torch.inference_mode():
        tokens = whiten(torch.from_numpy(one.features).float()).numpy()
    weights = np.ones(len(one.shares), np.float32)
    view = View(tokens, one.positions_um, one.shares, weights)
    return LabelledField(one.source, view, one.shares.argmax(axis=1).astype(np.int64))
