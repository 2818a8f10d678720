"""One training on one division of the slides: from sources to fitted weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch

from xt_backend.engine import BatchDecoder, BatchEncoder, Device
from xt_backend.errors import AnnotationError, LossNotFiniteError, UsageError
from xt_backend.model import XT, StainInfo, build_region_encoder
from xt_backend.model import save_model as save

from .cached import CachedLearner
from .checkpoint import Checkpoint, Position
from .counts import ExampleCounts, count_examples
from .dataset import load_field
from .describe import first_card, recipe
from .events import Progress, ProgressCallback, Warnings
from .examples import Examples, Split
from .fields import FieldLoader
from .fit import Fitter
from .judging import Judged, judge
from .labels import LabelledSlide
from .learner import Learner
from .loader import Loader
from .parts import check_parts
from .pixel_judging import PixelJudged, judge_pixels
from .pixel_loader import PixelLoader
from .pixels import PixelField
from .processes import Processes
from .spec import TrainSpec
from .streamed import StreamedLearner

__all__ = ["Fitted", "Log", "Trainer", "check_processes", "new_model", "repeatable"]

Log: TypeAlias = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Fitted:
    """A trained model with what it was trained on.

    Attributes:
        fitter: Done.
        train_slides: Names of the slides learnt from.
        val_slides: Names of the slides that chose the epoch.
        counts: Examples by class.
        held_out: What the model makes of the slides that were held out.
        held_out_pixels: The same for its decoder.
    """

    fitter: Fitter
    train_slides: tuple[str, ...]
    val_slides: tuple[str, ...]
    counts: tuple[ExampleCounts, ...]
    held_out: tuple[Judged, ...] = ()
    held_out_pixels: tuple[PixelJudged, ...] = ()

    @property
    def model(self) -> XT:
        """The trained model."""
        return self.fitter.model

    @property
    def learner(self) -> Learner:
        """What it learnt from."""
        return self.fitter.learner


@dataclass
class Trainer:
    """Trains models of one spec on one division of the slides after the other.

    Attributes:
        spec: The recipe.
        examples: All slides, and the classes.
        device: Where, and in which precision the region encoder computes.
        stain: That slides are brought to, or None.
        progress: Told about every slide and epoch.
        log: Takes a row for the log.
        processes: That share the work.
        notes: What the user should know.
        warn: Takes what puts the model in doubt, as soon as it is known.
    """

    spec: TrainSpec
    examples: Examples
    device: Device
    stain: StainInfo | None
    progress: ProgressCallback
    log: Log
    processes: Processes
    warn: Warnings
    notes: list[str] = field(default_factory=list)
    _checkpoints: list[Checkpoint] = field(default_factory=list)

    def fit(self, split: Split, tag: str = "", last_epoch: int | None = None) -> Fitted:
        """Train a new model.

        Args:
            split: What to learn from and what to judge.
            tag: Tells several trainings of one run apart; empty for the one that is kept.
            last_epoch: As of `Fitter`.

        Raises:
            SlideError: Not one slide could be used.
            AnnotationError: What can be used holds too little.
            LossNotFiniteError: The loss became NaN.
            UsageError: Another training left its checkpoint here.
        """
        spec = self.spec
        if labels := {one.label for one in split.train if isinstance(one, LabelledSlide)}:
            self._check_classes(sorted(labels), tag)  # before hours of encoding
        model = new_model(spec, self.examples, self.stain).to(self.device.name)
        encoder = BatchEncoder(model.region_encoder, self.device)
        n_slides = len(split.train) + len(split.val)
        arguments = (model, encoder, spec, self.progress, n_slides, self.notes, self.warn)
        learner: Learner
        loader: Loader
        pixel_fields: tuple[list[PixelField], list[PixelField]] = ([], [])
        if spec.reads_pixels:
            loader = pixels = PixelLoader(*arguments)
            train = pixels.load(split.train, "training")
            val = pixels.load(split.val, "validation") if split.val else []
            pixels.fit_whitening(train)
            names = [[one.name for one in part] for part in (train, val)]
            sources = [one.source for one in train]
            learner = StreamedLearner(model, train, val, spec, self.device, self.processes)
            pixel_fields = train, val
        else:
            loader = cached = FieldLoader(*arguments)
            fields = cached.load_training(split.train)
            seen = cached.load_validation(split.val) if split.val else []
            names = [[one.name for one in part] for part in (fields, seen)]
            sources = [one.source for one in fields]
            learner = CachedLearner(model, fields, seen, spec, loader.pitch_um)
        counts = count_examples(model.card, learner, *pixel_fields)
        self._check_counts(counts, tag)
        # Of the encoder as it starts: a checkpoint of heads and whitening fits no other.
        checkpoint = self._checkpoint(learner, model.region_encoder.info.sha256, tag)
        patients = self.examples.patients_of(sources) if spec.even_patients else ()
        fitter = Fitter(learner, spec, last_epoch, checkpoint, self.processes, patients)
        with repeatable(spec.seed):
            self._run(fitter, tag)
            if spec.end_to_end:
                # Halves the model file; before anything is measured, so that nothing is lost.
                model.region_encoder.round_to_half()
                model.region_encoder.refresh_sha256(source="trained", revision="", embedded=True)
            judged = [*self._judge(split, model, encoder)]
        return Fitted(
            fitter,
            tuple(names[0]),
            tuple(names[1]),
            counts,
            tuple(one for one, _ in judged),
            tuple(more for _, more in judged if more is not None),
        )

    def forget(self) -> None:
        """Remove all checkpoints: the result is safe."""
        for checkpoint in self._checkpoints:
            checkpoint.remove()

    def _run(self, fitter: Fitter, tag: str) -> None:
        spec = self.spec
        last = spec.epochs if fitter.last_epoch is None else fitter.last_epoch

        def on_epoch(row: dict[str, float]) -> None:
            self.log({"event": "epoch", **({"part": tag} if tag else {}), **row})
            message = f"loss {row['loss']:.3f}, macro F1 {row['train_f1']:.3f}"
            if "val_loss" in row:
                message = (
                    f"validation loss {row['val_loss']:.3f}, macro F1 {row['val_f1']:.3f} "
                    f"(region only {row['val_f1_region_only']:.3f})"
                )
            message = f"{tag}: {message}" if tag else message
            self.progress(Progress("train", int(row["epoch"]), last, message, row))

        def on_resume(here: Position) -> None:
            name = fitter.checkpoint.path.name if fitter.checkpoint is not None else ""
            line = f"{name} was left by a training that was broken off: {_where(here, last)}"
            self.progress(Progress("notice", 0, 0, lines=(f"{tag}: {line}" if tag else line,)))

        kept_as = spec.out.with_suffix(".checkpoint.safetensors")
        try:
            fitter.run(on_epoch, on_resume)
        except BaseException as error:
            kept = self._keep_best(fitter, kept_as)
            self.log({"event": "broken off", "reason": repr(error), "kept": kept})
            if isinstance(error, LossNotFiniteError):
                # The same would happen again.
                self.forget()
                if kept:
                    way_out = f"{error.way_out}; epoch {fitter.best_epoch} is kept as {kept_as}"
                    raise LossNotFiniteError(error.cause, way_out) from error
            raise
        kept_as.unlink(missing_ok=True)

    def _judge(
        self, split: Split, model: XT, encoder: BatchEncoder
    ) -> Iterator[tuple[Judged, PixelJudged | None]]:
        """What a model makes of slides that neither taught it nor chose its epoch."""
        card = model.card
        options = self.spec.model_copy(update={"use_cache": not self.spec.end_to_end})
        n_slides = len(split.held_out)
        loader = Loader(model, encoder, self.spec, self.progress, n_slides, self.notes, self.warn)
        for source in split.held_out:
            load = partial(load_field, source, card, encoder, options)
            loaded = loader.attempt(source, load)
            if loaded is None:
                continue
            pixels = None
            if model.dense_head is not None:
                decoder = BatchDecoder(model, self.device)
                pixels = judge_pixels(model, decoder, loaded, options)
            patient = self.examples.patients_of([source])[0]
            yield replace(judge(model, loaded), patient=patient), pixels

    def _checkpoint(self, learner: Learner, weights_sha256: str, tag: str) -> Checkpoint:
        suffix = f".{tag.replace(' ', '-')}" if tag else ""
        identity = {
            "recipe": recipe(self.spec),
            "classes": list(self.examples.classes),
            "weights": weights_sha256,
            "examples": learner.fingerprint(),
            "device": self.device.kind,
            "precision": self.device.precision,
        }
        path = self.spec.out.with_suffix(f"{suffix}.resume.safetensors")
        checkpoint = Checkpoint(path, identity)
        self._checkpoints.append(checkpoint)
        if not self.spec.resume and self.processes.is_main:
            checkpoint.remove()
        self.processes.wait()
        return checkpoint

    def _check_counts(self, counts: Sequence[ExampleCounts], tag: str) -> None:
        """Tell how many examples of each class there are, and refuse to learn a single class."""
        self._check_classes([name for name, count in counts[0].train.items() if count], tag)
        lines = [line for one in counts for line in one.lines()]
        self.progress(Progress("examples", 0, 0, lines=(*([tag] if tag else []), *lines)))
        for text in (text for one in counts for text in one.warnings()):
            self.warn(f"{tag}: {text}" if tag else text)

    def _check_classes(self, present: Sequence[str], tag: str) -> None:
        least = 1 if self.spec.task == "detection" else 2  # objects stand against the background
        if len(present) < least:
            part = f" of {tag}" if tag else ""
            raise AnnotationError(
                f"The training slides{part} teach only {', '.join(present) or 'nothing'}",
                "Add slides of the other classes, or choose the validation slides with --val",
            )

    def _keep_best(self, fitter: Fitter, path: Path) -> str | None:
        """Save the best epoch so far; its name, or None where there is none."""
        if not fitter.best_epoch or not self.processes.is_main:
            return None
        fitter.restore_best()
        if fitter.learner.trains_encoder:
            fitter.model.region_encoder.refresh_sha256(source="trained", revision="", embedded=True)
        save(fitter.model, path)
        return path.name


def _where(here: Position, last: int) -> str:
    """Where a training goes on, for people."""
    if here.finished:
        return f"all its epochs are done ({here.epoch})"
    if here.order:
        return f"going on in epoch {here.epoch} of {last}, after step {here.step:,}"
    return f"going on with epoch {here.epoch + 1} of {last}"


def new_model(spec: TrainSpec, examples: Examples, stain: StainInfo | None = None) -> XT:
    """A model that has learnt nothing yet.

    Raises:
        ModelError: Region encoder or context cannot be built.
        UsageError: There can be no such model, or it has no such parts.
    """
    region_encoder = build_region_encoder(
        spec.region_encoder,
        region_px=spec.region_px,
        input_px=spec.input_px,
        tokens_per_region=spec.tokens_per_region,
        pooling=spec.pooling,
        weights=spec.weights,
        offline=True if spec.offline else None,
    )
    check_parts(spec, region_encoder.tokens_per_region)
    region_encoder.round_to_half()
    card = first_card(spec, examples.classes, examples.colors, region_encoder, stain)
    return XT(card, region_encoder, generator=torch.Generator().manual_seed(spec.seed))


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """Draw dropout from a seed and use deterministic kernels; put both back afterwards."""
    before = torch.are_deterministic_algorithms_enabled()
    only_warned = torch.is_deterministic_algorithms_warn_only_enabled()
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=only_warned)


def check_processes(spec: TrainSpec, processes: Processes) -> None:
    """Refuse several processes where there is nothing to share.

    Raises:
        UsageError: Training on cached features.
    """
    if processes.count > 1 and not spec.reads_pixels:
        raise UsageError(
            "Training on cached features takes a single process",
            "Start it without accelerate, or train with --end-to-end",
        )
