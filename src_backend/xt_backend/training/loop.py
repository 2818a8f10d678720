"""Training from a folder of slides to a model file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median_low
from typing import Any

from xt_backend.engine import choose_device
from xt_backend.errors import UsageError
from xt_backend.model import ModelCard, save_model
from xt_backend.store import make_folder

from .counts import ExampleCounts
from .describe import complete_card, recipe
from .events import Progress, ProgressCallback, Warnings, ignore
from .examples import Split, read_examples
from .fit import Fitter
from .judging import Judged
from .metrics import Metrics
from .pixel_judging import PixelJudged
from .pixel_metrics import PixelMetrics
from .plots import plot_curves
from .processes import Processes
from .spec import TrainSpec
from .stain_target import stain_target
from .train_log import TrainLog
from .trainer import Fitted, Trainer, check_processes

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
        counts: Examples by class; of the model that was kept.
        folds: Models trained beside this one, whose predictions of the slides that they had not
            seen chose temperature and thresholds; 0 without.
        context: Measured on the validation slides, or on all slides with folds.
        region_only: The same from each region alone.
        pixels: The masks or points; None without a decoder.
        notes: What the user should know.
        warnings: What puts the model in doubt, each told already when it was found: annotations
            and slides that are left out, classes that lack examples, and what speaks against
            temperature, thresholds and points.
        is_main: Whether this process wrote the files; of several that share a training one did,
            and the others have nothing to say.
    """

    model: Path
    card: ModelCard
    history: list[dict[str, float]]
    best_epoch: int
    train_slides: tuple[str, ...]
    val_slides: tuple[str, ...]
    counts: tuple[ExampleCounts, ...]
    folds: int
    context: Metrics
    region_only: Metrics
    pixels: PixelMetrics | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    is_main: bool = True

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
            "examples": [one.to_dict() for one in self.counts],
            "folds": self.folds,
            "validation": self.context.to_dict(),
            "validation_region_only": self.region_only.to_dict(),
            "validation_pixels": self.pixels.to_dict() if self.pixels else None,
            "notes": [*self.warnings, *self.notes],
        }


def train(spec: TrainSpec, progress: ProgressCallback = ignore) -> TrainResult:
    """Train a model on annotated or labelled slides.

    Beside the model `M.safetensors` appear `M.train.jsonl` (one line an epoch) and, where
    matplotlib is installed, `M.train.png`. Until there is a model, the lines are in
    `M.running.jsonl`, so that a training that fails leaves an older model's own alone. The same
    slides, spec, machine and versions give the same model file. A training that was killed goes on
    from `M.resume.safetensors` when it is started again; on one CPU it ends with the same file as
    an undisturbed one. When training breaks off, the best epoch so far is kept as
    `M.checkpoint.safetensors`.

    Args:
        spec: What to train on and how.
        progress: Told about every slide and epoch.

    Raises:
        UsageError: `out` is no .safetensors file, names of classes do not fit, or another
            training's state lies beside `out`.
        InputNotFoundError: A folder or table does not exist.
        AnnotationError: Annotations or labels are missing or cannot be used.
        ModelError: Region encoder or context cannot be built.
        SlideError: Not one slide could be used.
        LossNotFiniteError: The loss became NaN.
        OutputError: The model cannot be written.
    """
    _check_out(spec)
    processes = Processes.launched()
    check_processes(spec, processes)
    if not processes.is_main:
        progress = ignore
    progress(Progress("slides", 0, 0, "reading annotations and labels"))
    warn = Warnings(progress)
    examples = read_examples(spec, warn)
    splits = examples.folds(spec, spec.folds) if spec.folds else [examples.split(spec)]
    device = choose_device(spec.device, spec.precision)
    if processes.device is not None:
        device = replace(device, name=processes.device)
    make_folder(spec.out.parent)
    stain = stain_target(spec, examples.slides, progress)
    log = TrainLog(spec.out, writes=processes.is_main)
    log.write({"event": "start", **recipe(spec), "slides": len(examples.slides)})
    trainer = Trainer(
        spec, examples, device, stain, progress, log.write, processes, warn, [*examples.notes]
    )
    if spec.folds:
        fitted, judged, pixels = _fit_folds(trainer, splits)
    else:
        fitted = trainer.fit(splits[0])
        progress(Progress("calibrate", 0, len(splits[0].val), "temperature and thresholds"))
        judged, pixels = fitted.learner.judge(), fitted.learner.judge_pixels()
    fitter = fitted.fitter
    measured = complete_card(spec, fitter, judged, pixels, len(fitted.val_slides))
    for text in measured.warnings:
        warn(text)
    card = fitted.model.card
    if processes.is_main:
        card = save_model(fitted.model, spec.out)
        log.write({"event": "end", "best_epoch": fitter.best_epoch, "metrics": card.metrics})
        log.finish()
        trainer.forget()
        _draw(fitter, spec.out, trainer.notes)
    processes.wait()
    return TrainResult(
        model=spec.out,
        card=card,
        history=fitter.history,
        best_epoch=fitter.best_epoch,
        train_slides=fitted.train_slides,
        val_slides=fitted.val_slides,
        counts=fitted.counts,
        folds=spec.folds or 0,
        context=measured.context,
        region_only=measured.region_only,
        pixels=measured.pixels,
        notes=tuple(dict.fromkeys(trainer.notes)),
        warnings=tuple(warn.said),
        is_main=processes.is_main,
    )


def _fit_folds(
    trainer: Trainer, splits: list[Split]
) -> tuple[Fitted, list[Judged], list[PixelJudged]]:
    """Train on every part, then on everything for as many epochs as were best for the parts."""
    judged: list[Judged] = []
    pixels: list[PixelJudged] = []
    best: list[int] = []
    for number, split in enumerate(splits, start=1):
        fitted = trainer.fit(split, f"fold {number}")
        judged += [replace(one, fold=number) for one in fitted.held_out]
        pixels += fitted.held_out_pixels
        best.append(fitted.fitter.best_epoch)
    fitted = trainer.fit(Split(trainer.examples.slides, ()), last_epoch=median_low(best))
    return fitted, judged, pixels


def _check_out(spec: TrainSpec) -> None:
    out = spec.out
    if out.suffix != ".safetensors":
        raise UsageError(f"{out.name} is no name of a model file", "Let --out end in .safetensors")
    if out.is_dir():
        raise UsageError(f"{out.name} is a folder", "Give the model file to write with --out")
    if spec.folds and spec.val is not None:
        raise UsageError(
            "--folds and --val exclude each other",
            "With --folds every slide of --slides is held out once",
        )


def _draw(fitter: Fitter, out: Path, notes: list[str]) -> None:
    try:
        plot_curves(fitter.history, out.with_suffix(".train.png"), fitter.best_epoch)
    except UsageError as error:
        notes.append(str(error))
