"""Training from a folder of annotated slides to a model file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch

from xt_backend.engine import BatchEncoder, choose_device
from xt_backend.errors import UsageError
from xt_backend.model import XT, ModelCard, build_region_encoder, save_model
from xt_backend.store import make_folder

from .annotations import AnnotatedSlide, class_colors, classes_in, pair_slides
from .describe import complete_card, first_card, recipe
from .events import Progress, ProgressCallback, ignore
from .fields import FieldLoader
from .fit import Fitter, LabelledField, LossNotFiniteError
from .metrics import Metrics
from .plots import plot_curves
from .spec import TrainSpec
from .splits import read_patients, split_slides

__all__ = ["TrainResult", "train"]


@dataclass(frozen=True)
class TrainResult:
    """The outcome of `train`.

    Attributes:
        model: The model file.
        card: As it is stored in the file.
        history: One row an epoch.
        best_epoch: The epoch that was kept, from 1.
        train_slides: Names of the slides that were trained on.
        val_slides: Names of the slides that chose the epoch, temperature and thresholds.
        context: Measured on the validation slides.
        region_only: The same from each region alone.
        notes: What the user should know.
    """

    model: Path
    card: ModelCard
    history: list[dict[str, float]]
    best_epoch: int
    train_slides: tuple[str, ...]
    val_slides: tuple[str, ...]
    context: Metrics
    region_only: Metrics
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "model": self.model.name,
            "best_epoch": self.best_epoch,
            "epochs": len(self.history),
            "classes": list(self.card.class_names),
            "temperature": self.card.temperature,
            "thresholds": dict(self.card.thresholds),
            "train_slides": list(self.train_slides),
            "val_slides": list(self.val_slides),
            "validation": self.context.to_dict(),
            "validation_region_only": self.region_only.to_dict(),
            "notes": list(self.notes),
        }


def train(spec: TrainSpec, progress: ProgressCallback = ignore) -> TrainResult:
    """Train a region model on cached features of annotated slides.

    Beside the model `M.safetensors` appear `M.train.jsonl` (one line an epoch) and, where
    matplotlib is installed, `M.train.png`. The same slides, spec, machine and versions give the
    same model file. When training breaks off, the best epoch so far is kept as
    `M.checkpoint.safetensors`.

    Args:
        spec: What to train on and how.
        progress: Told about every slide and epoch.

    Raises:
        UsageError: `out` is no .safetensors file, or names of classes do not fit.
        InputNotFoundError: A folder or table does not exist.
        AnnotationError: Annotations are missing or cannot be used.
        ModelError: Region encoder or context cannot be built.
        SlideError: Not one slide could be used.
        LossNotFiniteError: The loss became NaN.
        OutputError: The model cannot be written.
    """
    _check_out(spec.out)
    progress(Progress("slides", 0, 0, "reading annotations"))
    train_slides, val_slides, notes = _divide(spec)
    every = [*train_slides, *val_slides]
    classes = classes_in(every, spec.classes)
    _check_named(spec, classes)
    colors = class_colors(classes, [slide.annotations for slide in every])
    device = choose_device(spec.device, spec.precision)
    region_encoder = build_region_encoder(
        spec.region_encoder,
        region_px=spec.region_px,
        input_px=spec.input_px,
        tokens_per_region=spec.tokens_per_region,
        weights=spec.weights,
        offline=True if spec.offline else None,
    )
    region_encoder.round_to_half()
    make_folder(spec.out.parent)
    model = XT(
        first_card(spec, classes, colors, region_encoder),
        region_encoder,
        generator=torch.Generator().manual_seed(spec.seed),
    ).to(device.name)
    encoder = BatchEncoder(model.region_encoder, device)
    loader = FieldLoader(model, encoder, spec, progress, len(every), notes)
    fields = loader.load_training(train_slides)
    val = loader.load_validation(val_slides)
    with _repeatable(spec.seed):
        return _fit_and_save(spec, model, fields, val, loader, progress)


def _fit_and_save(
    spec: TrainSpec,
    model: XT,
    fields: list[LabelledField],
    val: list[LabelledField],
    loader: FieldLoader,
    progress: ProgressCallback,
) -> TrainResult:
    fitter = Fitter(model, fields, val, spec, loader.pitch_um)
    log_path = spec.out.with_suffix(".train.jsonl")
    with log_path.open("w", encoding="utf-8") as log:
        _write(log, {"event": "start", **recipe(spec), "train_slides": len(fields)})

        def on_epoch(row: dict[str, float]) -> None:
            _write(log, {"event": "epoch", **row})
            message = (
                f"validation loss {row['val_loss']:.3f}, macro F1 {row['val_f1']:.3f} "
                f"(region only {row['val_f1_region_only']:.3f})"
            )
            progress(Progress("train", int(row["epoch"]), spec.epochs, message, row))

        checkpoint = spec.out.with_suffix(".checkpoint.safetensors")
        try:
            fitter.run(on_epoch)
        except BaseException as error:
            kept = _keep_best(fitter, checkpoint)
            _write(log, {"event": "broken off", "reason": repr(error), "kept": kept})
            if isinstance(error, LossNotFiniteError) and kept:
                way_out = f"{error.way_out}; epoch {fitter.best_epoch} is kept as {kept}"
                raise LossNotFiniteError(error.cause, way_out) from error
            raise
        progress(Progress("calibrate", 0, len(val), "temperature and thresholds"))
        context, region_only = complete_card(spec, model, fields, val, fitter)
        card = save_model(model, spec.out)
        checkpoint.unlink(missing_ok=True)
        _write(log, {"event": "end", "best_epoch": fitter.best_epoch, "metrics": card.metrics})
    try:
        plot_curves(fitter.history, spec.out.with_suffix(".train.png"))
    except UsageError as error:
        loader.notes.append(str(error))
    return TrainResult(
        model=spec.out,
        card=card,
        history=fitter.history,
        best_epoch=fitter.best_epoch,
        train_slides=tuple(one.name for one in fields),
        val_slides=tuple(one.name for one in val),
        context=context,
        region_only=region_only,
        notes=tuple(loader.notes),
    )


def _check_out(out: Path) -> None:
    if out.suffix != ".safetensors":
        raise UsageError(f"{out.name} is no name of a model file", "Let --out end in .safetensors")
    if out.is_dir():
        raise UsageError(f"{out.name} is a folder", "Give the model file to write with --out")


def _divide(spec: TrainSpec) -> tuple[list[AnnotatedSlide], list[AnnotatedSlide], list[str]]:
    """Slides for training, slides for validation, and notes."""
    annotations = spec.annotations or spec.slides
    slides = pair_slides(spec.slides, [annotations])
    if spec.val is not None:
        val = pair_slides(spec.val, [spec.val, annotations])
        both = {slide.path.resolve() for slide in slides} & {slide.path.resolve() for slide in val}
        if both:
            names = ", ".join(sorted(path.name for path in both))
            raise UsageError(f"--slides and --val both hold {names}", "Keep validation apart")
        return slides, val, []
    notes: list[str] = []
    patients: dict[str, str] = {}
    if spec.patients is not None:
        table = read_patients(spec.patients)
        for slide in slides:
            patient = table.get(slide.name) or table.get(slide.path.stem)
            if patient is None:
                notes.append(f"{slide.name} has no patient in the table: taken as one of its own")
            else:
                patients[str(slide.path)] = patient
    by_path = {str(slide.path): slide for slide in slides}
    train_paths, val_paths = split_slides(list(by_path), patients, spec.val_fraction, spec.seed)
    return [by_path[path] for path in train_paths], [by_path[path] for path in val_paths], notes


def _check_named(spec: TrainSpec, classes: Sequence[str]) -> None:
    if unknown := sorted({*spec.min_fraction, *spec.fitted_thresholds} - set(classes)):
        raise UsageError(
            f"min_fraction or thresholds name no class: {', '.join(unknown)}",
            f"The classes are: {', '.join(classes)}",
        )


@contextmanager
def _repeatable(seed: int) -> Iterator[None]:
    """Draw dropout from a seed and use deterministic kernels; put both back afterwards."""
    before = torch.are_deterministic_algorithms_enabled()
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)


def _keep_best(fitter: Fitter, path: Path) -> str | None:
    """Save the best epoch so far; its name, or None where there is none."""
    if not fitter.best_epoch:
        return None
    fitter.restore_best()
    save_model(fitter.model, path)
    return path.name


def _write(log: TextIO, row: Mapping[str, Any]) -> None:
    log.write(json.dumps(row) + "\n")
    log.flush()
