"""How good a model is on annotated slides."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xt_backend.engine import (
    BatchDecoder,
    BatchEncoder,
    asked_way,
    choose_device,
    kept_encoders,
)
from xt_backend.errors import AnnotationError, EngineError, SlideError, UsageError
from xt_backend.model import XT, ModelCard, find_model, load_model

from .annotations import AnnotatedSlide, annotated_classes, listed, occurrences, pair_slides
from .dataset import load_field
from .evaluation_files import prepare_folder, write_evaluation
from .events import Progress, ProgressCallback, Warnings, ignore
from .judging import Judged, judge, measure_heads, missed
from .labels import LabelledSlide, LabelTable, label_slides
from .metrics import Metrics
from .patients import PatientTable, without_patient
from .pixel_judging import PixelJudged, judge_pixels, measure_pixels
from .pixel_metrics import PixelMetrics
from .spec import EvaluateSpec
from .truth import Source

__all__ = ["EvaluationReport", "evaluate"]


@dataclass(frozen=True)
class EvaluationReport:
    """The outcome of `evaluate`.

    Attributes:
        model: Name of the model.
        slides: By slide: regions that were judged, and failed regions among them. Slides of one
            file name are numbered.
        failed: By slide: why it could not be judged at all.
        context: The model's prediction.
        region_only: The same from each region alone; None unless asked for.
        pixels: The masks or points of dense and detection models; None for others.
        region_only_pixels: The same without context; None unless asked for.
        notes: What the user should know.
        warnings: What puts the numbers in doubt, each told already when it was found: annotations
            that are left out, slides without a patient or without a judged region.
        judged: By slide: what was compared with what; not part of `to_dict`.
    """

    model: str
    slides: dict[str, dict[str, int]]
    failed: dict[str, str]
    context: Metrics
    region_only: Metrics | None
    pixels: PixelMetrics | None
    region_only_pixels: PixelMetrics | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    judged: dict[str, Judged] = field(default_factory=dict, repr=False)

    @property
    def complete(self) -> bool:
        """Whether every slide and every region could be judged."""
        return not self.failed and not any(one["failed"] for one in self.slides.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; no paths."""
        return {
            "model": self.model,
            "slides": self.slides,
            "failed": self.failed,
            "context": self.context.to_dict(),
            "region_only": self.region_only.to_dict() if self.region_only else None,
            "pixels": self.pixels.to_dict() if self.pixels else None,
            "region_only_pixels": (
                self.region_only_pixels.to_dict() if self.region_only_pixels else None
            ),
            "notes": [*self.warnings, *self.notes],
        }


def evaluate(spec: EvaluateSpec, progress: ProgressCallback = ignore) -> EvaluationReport:
    """Compare a model's predictions with annotations, or with labels of slides.

    Judged are the regions of tissue that are annotated enough (the model's label rule), or whole
    slides; those that could not be read count as wrong, however many they are. Slides whose regions
    cannot be judged are listed, never dropped.

    Raises:
        InputNotFoundError: A folder or the model file does not exist.
        ModelError: The model cannot be used.
        UsageError: Labels for a model that predicts regions, or none for one that predicts slides.
        AnnotationError: Annotations or labels are missing, or hold classes that the model does not
            know and that are not to be left out.
        SlideError: Not one slide could be judged.
        OutputError: The folder for the files cannot be written.
        DeviceError: A device or encoder backend that cannot be had.
    """
    if spec.out is not None:
        prepare_folder(spec.out)
    device = choose_device(spec.device, spec.precision)
    model = load_model(find_model(spec.model), offline=spec.offline or None)
    if spec.compare_context and not model.has_region_only:
        raise UsageError(
            f"Model {model.card.name} has no head that sees each region alone",
            "Leave --compare-context out",
        )
    card = model.card.model_copy(update={"model_mpp": model.card.mpp(spec.model_mpp)})
    warn, notes = Warnings(progress), list[str]()
    slides = _sources(spec, card, warn)
    names = unique_names([slide.name for slide in slides])
    patients = _patients(spec, dict(zip(names, slides, strict=True)), warn)
    options = spec.model_copy(update={"max_failed_fraction": 1.0})
    way = asked_way(spec.encoder_backend, device)
    encoder = BatchEncoder(model.region_encoder, device, way, kept_encoders(spec))
    model.to(device.name)
    judged: dict[str, Judged] = {}
    failed: dict[str, str] = {}
    absent: dict[str, Judged] = {}
    dense = model if isinstance(model, XT) and card.has_dense_head else None
    decoder = None if dense is None else BatchDecoder(dense, device)
    by_pixel: tuple[list[PixelJudged], list[PixelJudged]] = ([], [])
    first_error: SlideError | EngineError | None = None
    for index, (name, slide) in enumerate(zip(names, slides, strict=True)):
        progress(Progress("evaluate", index, len(slides), name))
        try:
            field = load_field(slide, card, encoder, options)
        except (SlideError, EngineError) as error:
            first_error = first_error or error
            failed[name] = str(error)
            if isinstance(slide, LabelledSlide):
                absent[name] = missed(slide, card)
            continue
        notes += [f"{name}: {note}" for note in field.notes]
        judged[name] = judge(model, field)
        for on, found in zip((True, False), by_pixel, strict=True):
            if dense is not None and decoder is not None and (on or spec.compare_context):
                more = judge_pixels(
                    dense, decoder, field, spec, context=on, distance_um=spec.distance_um
                )
                found.append(more)
        if not len(judged[name].true):
            warn(f"{name}: no region is annotated enough to be judged")
    if first_error is not None and not judged:
        raise first_error
    progress(Progress("evaluate", len(slides), len(slides), "bootstrap"))
    measured = [
        measure_pixels(
            found,
            card,
            distance_um=spec.distance_um,
            n_bootstrap=spec.bootstrap,
            seed=spec.seed,
        )
        for found in (by_pixel if spec.compare_context else by_pixel[:1])
        if card.has_dense_head
    ]
    every = {**judged, **absent}
    context, region_only = measure_heads(
        list(every.values()),
        card,
        patients=[patients[name] for name in every] if patients else None,
        ordered=spec.ordered,
        n_bootstrap=spec.bootstrap,
        seed=spec.seed,
    )
    report = EvaluationReport(
        model=card.name,
        slides={
            name: {"regions": len(one.true), "failed": int(np.isnan(one.logits).any(axis=1).sum())}
            for name, one in judged.items()
        },
        failed=failed,
        context=context,
        region_only=region_only if spec.compare_context else None,
        pixels=measured[0] if measured else None,
        region_only_pixels=measured[1] if len(measured) > 1 else None,
        notes=tuple(notes),
        warnings=tuple(warn.said),
        judged=every,
    )
    if spec.out is not None:
        write_evaluation(spec.out, report, card)
    return report


def unique_names(plain: Sequence[str]) -> list[str]:
    """File names; where several slides share one, the second is ``a.svs (2)`` and so on."""
    names: list[str] = []
    for name in plain:
        unique, number = name, 2
        while unique in names or (number > 2 and unique in plain):
            unique, number = f"{name} ({number})", number + 1
        names.append(unique)
    return names


def _patients(spec: EvaluateSpec, slides: Mapping[str, Source], warn: Warnings) -> dict[str, str]:
    """Patient by name of the slide, one of its own where none is known; empty without a table."""
    table = PatientTable({})
    if spec.patients is not None:
        table = PatientTable.read(spec.patients)
        table.check([slide.path for slide in slides.values()], warn)
    found = {}
    for name, slide in slides.items():
        found[name] = table.patient_of(slide.path) or getattr(slide, "patient", "")
    if not any(found.values()):
        return {}
    for name, who in found.items():
        if not who:
            warn(without_patient(name))
    # The prefix keeps a slide's own name from meeting a patient of that name.
    return {name: f"patient {who}" if who else f"slide {name}" for name, who in found.items()}


def _sources(spec: EvaluateSpec, card: ModelCard, warn: Warnings) -> Sequence[Source]:
    """The slides to be judged with what is known about them."""
    if card.task != "slide":
        if spec.labels is not None:
            raise UsageError(
                f"{card.name} predicts regions, and --labels has one label a slide",
                "Give --annotations, or a model of task slide",
            )
        pairs = pair_slides(spec.slides, [spec.annotations or spec.slides])
        check_known_classes(pairs, card, warn, spec.leave_out)
        return pairs
    if spec.labels is None:
        raise UsageError(
            f"{card.name} predicts one label a slide",
            "Give them with --labels, a CSV file with the columns slide and label",
        )
    table = LabelTable.read(spec.labels)
    found = label_slides(table, [spec.slides], warn, strict=False)
    unknown = [one for one in found[0] if one.label not in card.class_names]
    if unknown:
        raise AnnotationError(
            f"{table.name} holds labels that {card.name} does not know: "
            + ", ".join(f"{one.label} (of {one.name})" for one in unknown),
            f"It knows: {', '.join(card.class_names)}",
        )
    absent = sorted(set(card.class_names) - {one.label for one in found[0]})
    if absent:
        warn(f"no slide is of class {', '.join(absent)}")
    return found[0]


def check_known_classes(
    slides: list[AnnotatedSlide], card: ModelCard, warn: Warnings, leave_out: Sequence[str] = ()
) -> None:
    """Check all annotation files against the model's classes, before any work.

    Args:
        slides: With their annotation files.
        card: Of the model.
        warn: Is told of classes that are left out, and of the model's that occur nowhere.
        leave_out: Classes that the model need not know.

    Raises:
        AnnotationError: A file cannot be read, a class is unknown to the model, or all are.
        UsageError: One of the model's own classes shall be left out.
    """
    annotated = annotated_classes(slides, warn, objects=card.task == "detection")
    known = card.point_kinds if card.task == "detection" else card.class_names
    if own := [name for name in leave_out if name in known]:
        raise UsageError(
            f"{listed(own)} is a class of {card.name} and cannot be left out",
            "Name in --leave-out classes that the model does not know",
        )
    unknown = [name for name in annotated if name not in known]
    if unknown and len(unknown) == len(annotated):
        raise AnnotationError(
            f"No annotation is of a class of {card.name}, only {occurrences(annotated, unknown)}",
            f"It knows: {', '.join(known)}; rename the classes of the annotations",
        )
    if strange := [name for name in unknown if name not in leave_out]:
        raise AnnotationError(
            "The annotations hold classes that "
            f"{card.name} does not know: {occurrences(annotated, strange)}",
            f"It knows: {', '.join(known)}. Rename the classes of the annotations, or do "
            f"without these by --leave-out {shlex.quote(','.join(unknown))}",
        )
    if unknown:
        warn(
            f"annotations of classes that {card.name} does not know are left out: "
            f"{occurrences(annotated, unknown)}; it knows {', '.join(known)}"
        )
    if absent := [name for name in known if name not in annotated]:
        warn(f"no annotation is of class {', '.join(absent)}")
