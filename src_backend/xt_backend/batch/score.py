"""Score any number of slides, one after another, with a row for each."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from xt_backend.config import ScoreOptions, check_stride
from xt_backend.engine import (
    Device,
    Engine,
    Event,
    Judge,
    choose_device,
    judge_of,
    sought_in,
)
from xt_backend.errors import ModelError
from xt_backend.model import ModelCard, RegionEncoder, find_model, read_card
from xt_backend.outputs import check_parquet
from xt_backend.slides.reading import wants_direct

from .configuration import score_configuration
from .encoding import Encodes, batch_encoder
from .engaged import run_on
from .export import export_run
from .folder import RunFolder
from .inputs import read_inputs
from .isolation import Isolation
from .plan import Task, in_rows, plan
from .planned import PlannedBatch
from .pseudonyms import pseudonymous, read_key
from .repeat import check_repeated
from .result import Run
from .retry import unfinished
from .score_job import ScoreJob, Scorer

__all__ = ["Batch", "score"]


class Batch(PlannedBatch):
    """A planned batch.

    Args:
        inputs: Slides, folders, manifests.
        model: Name or file of a model.
        out: Run directory; None keeps results in memory only.
        dry_run: Only look; the run directory is neither made nor touched.
        retry_failed: Leave alone what the run in `out` has finished, without a look at it.
        arguments: Of the command line, for local.json; None where there is none.
        device: Of workers elsewhere, on which nothing can be tried from here; None for one of
            this machine.
        isolation: This process opens no slide; who executes the batch does. None where it may.
        repeated: Configuration of an earlier run that is to be done again exactly.

    Attributes:
        options: As asked for.

    Raises:
        UsageError: Anything that is wrong before work starts: no such path or model, an output
            folder with something else in it, no run of which failures could be tried again.
        DeviceError: A device, precision or encoder backend that cannot be had.
        OutputError: The output folder cannot be made.
    """

    job: ScoreJob

    def __init__(
        self,
        inputs: Sequence[Path],
        model: str,
        out: Path | None,
        options: ScoreOptions,
        *,
        dry_run: bool = False,
        retry_failed: bool = False,
        arguments: Sequence[str] | None = None,
        device: Device | None = None,
        isolation: Isolation | None = None,
        repeated: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        wants_direct()  # A wrong wish is told before any work
        self._arguments = None if arguments is None else list(arguments)
        self._named = [str(path.absolute()) for path in inputs]  # a link keeps its own name
        self.inputs = read_inputs(inputs, isolation)
        isolate = isolation is not None
        if options.pseudonymise is not None:
            self.inputs = pseudonymous(self.inputs, read_key(options.pseudonymise))
        path = find_model(model)
        self._model = str(path)
        card = read_card(path)
        card.mpp(options.model_mpp)
        if card.layout == "reference" and not options.context:
            raise ModelError(
                f"Model {card.name} has no head that sees each region alone",
                "Leave --context off out",
            )
        sought_in(card, options)
        check_stride(options.stride_px, card.scored_px)
        if "parquet" in options.layouts:
            check_parquet()
        self._engine = Engine()
        self.options = options
        elsewhere = device is not None
        device = device or choose_device(options.device, options.precision)
        self.device = device
        self.classes = tuple(item.name for item in card.classes)
        self.kinds = card.point_kinds
        ordered = plan(self.inputs, options)
        self.tasks = in_rows(ordered)
        self._encodes = self._encoding(card)
        with self._stages.timed("probe"):
            self.choice, encoder = batch_encoder(
                self._encodes,
                self.tasks,
                options,
                device,
                out,
                dry_run=dry_run or elsewhere,
                isolate=isolate,
                repeated=repeated,
            )
        self._engine.choice = self.choice
        if encoder is not None:
            self._engine.loaded.give_back(encoder)
        configuration = score_configuration(
            options,
            card.name,
            card.state_sha256,
            device.name,
            device.precision,
            {} if encoder is None else encoder.told(),
        )
        if repeated is not None:
            check_repeated(configuration, repeated)
        self.folder = None if out is None else RunFolder(out, configuration)
        if self.folder is not None:
            ids = [task.slide_id for task in self.tasks]
            self._previous = self.folder.claim(ids, make=not dry_run)
        self.todo = ordered
        if retry_failed:
            self.todo = unfinished(self.folder, ordered, options, self._previous)
        self.job = ScoreJob(options, self.folder, self.choice, self._model, isolate)

    def _encoding(self, card: ModelCard) -> Encodes:
        options, device = self.options, self.device

        def load() -> tuple[RegionEncoder, Judge | None]:
            with self._stages.timed("load"):
                model = self._engine.loaded.model(self._model, device, options.offline or None)
            return model.region_encoder, judge_of(model)

        return Encodes(
            what={"model": card.state_sha256},
            model_mpp=card.mpp(options.model_mpp),
            region_px=card.scored_px,
            stain=card.stain,
            load=load,
        )

    def _finish(self) -> None:
        if self.folder is not None and "report" in self.options.layouts:
            # What of a slide cannot be shown is told on the page of the batch.
            export_run(self.folder.path, "report")

    def _worker(self) -> Scorer:
        return Scorer(self.job, self._engine)

    def events(self, task: Task) -> Iterator[Event]:
        """The events of one task, without writing anything into the run directory."""
        return self._engine.run(task.spec(self._model, self.options))

    def rate(self) -> tuple[float, str]:
        """Regions that are encoded in a second, and where that is known from.

        Raises:
            DeviceError: The encoder cannot be had.
        """
        trial = self.choice.trial
        if trial is not None and trial.regions_per_s:
            return trial.regions_per_s, "measured when the encoder was chosen"
        loaded = self._engine.loaded
        model = loaded.model(self._model, self.device, self.options.offline or None)
        encoder = loaded.take_encoder(model, self.device, self.choice.way, self.options)
        side = model.card.scored_px
        pixels = np.zeros((encoder.in_flight, side, side, 3), np.uint8)
        encoder.encode(pixels)  # the first call prepares
        started = time.perf_counter()
        encoder.encode(pixels)
        rate = len(pixels) / (time.perf_counter() - started)
        loaded.give_back(encoder)
        return rate, "measured now"

    def _local(self) -> dict[str, Any]:
        cache = self.options.cache_dir()
        return {
            "arguments": self._arguments,
            "working_folder": str(Path.cwd()),
            "inputs": self._named,
            "model": self._model,
            "cache": None if cache is None else str(cache.resolve()),
            "options": self.options.model_dump(mode="json"),
            "slides": {task.slide_id: str(task.source.path.resolve()) for task in self.tasks},
        }


def score(
    slides: Path | str | Sequence[Path | str],
    model: str,
    out: Path | str | None = None,
    *,
    retry_failed: bool = False,
    engine: str = "local",
    processes: int | None = None,
    address: str | None = None,
    slurm: Sequence[str] = (),
    isolate: bool = False,
    give_up_after: float | None = None,
    **options: Any,
) -> Run:
    """Score slides with a model: the command ``napari-xt score`` for scripts.

    Args:
        slides: A slide, a DICOM folder, a folder, a manifest, or several of them.
        model: Name of a known model or path of a model file.
        out: Run directory; None keeps results in memory only.
        retry_failed: Leave alone what the run in `out` has finished, without a look at it.
        engine: Who works on the slides: ``local``, ``ray`` or ``slurm``.
        processes: Workers of the engine, each with a model; None for one for each GPU.
        address: HOST:PORT of a Ray cluster, or ``auto``; None starts one on this machine.
        slurm: ``KEY=VALUE`` for Slurm's jobs.
        isolate: Open slides in a process of their own: one that ends or holds it fails alone.
        give_up_after: Minutes without progress after which an isolated slide fails; None for 120.
        **options: Fields of `ScoreOptions`, e.g. ``slide_mpp=0.25``, ``context=False``.

    Returns:
        The run; `Run.slides` and `Run.regions` are pandas frames.

    Raises:
        UsageError: Something is wrong before work starts.
        DeviceError: A device, precision or encoder backend that cannot be had.
        EngineError: The engine cannot be reached, or was lost.
        OutputError: The output cannot be written.

    Example:
        >>> import xt_backend as xt
        >>> run = xt.score("slide.tiff", model="context-demo", out="results", workers=2)
        >>> run.counts["done"], run.counts["failed"], run.exit_code
        (1, 0, 0)
        >>> run.regions[["minx", "miny", "width", "height"]].iloc[0].tolist()  # level-0 px
        [768, 0, 192, 192]
        >>> (run.folder / "slide.geojson").is_file()
        True

        A slide that cannot be used is a row, not an exception:

        >>> xt.score(["slide.tiff", "broken.svs"], model="context-demo").slides["status"].tolist()
        ['done', 'failed']
    """
    listed = [slides] if isinstance(slides, str | Path) else list(slides)
    checked = ScoreOptions.checked(options)
    folder = None if out is None else Path(out)
    plan_for = partial(
        Batch,
        [Path(item) for item in listed],
        str(model),
        folder,
        checked,
        retry_failed=retry_failed,
    )
    return run_on(
        checked,
        plan_for,
        engine=engine,
        processes=processes,
        address=address,
        slurm=slurm,
        isolate=isolate,
        give_up_after=give_up_after,
    )
