"""Score any number of slides, one after another, with a row for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from xt_backend.config import ScoreOptions, check_stride
from xt_backend.engine import (
    Engine,
    Event,
    Judge,
    RegionsScored,
    Wish,
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
from .folder import RunFolder
from .following import Following
from .inputs import Inputs, read_inputs
from .loop import run_tasks
from .report import RunReport
from .result import Run
from .table import SlideTable
from .task import Outcome, Task, finished_before, name_tasks, run_task

__all__ = ["Batch", "score"]


class Batch:
    """A planned batch.

    Args:
        inputs: Slides, folders, manifests.
        model: Name or file of a model.
        out: Run directory; None keeps results in memory only.
        dry_run: Only look; the run directory is neither made nor touched.
        arguments: Of the command line, for local.json; None where there is none.

    Raises:
        UsageError: Anything that is wrong before work starts: no such path or model, an output
            folder with something else in it.
        DeviceError: A device, precision or encoder backend that cannot be had.
        OutputError: The output folder cannot be made.
    """

    def __init__(
        self,
        inputs: Sequence[Path],
        model: str,
        out: Path | None,
        options: ScoreOptions,
        *,
        dry_run: bool = False,
        arguments: Sequence[str] | None = None,
    ) -> None:
        wants_direct()  # A wrong wish is told before any work
        self._arguments = None if arguments is None else list(arguments)
        self.inputs: Inputs = read_inputs(inputs)
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
        self._options = options
        device = choose_device(options.device, options.precision)
        self.device = device
        self.classes = tuple(item.name for item in card.classes)
        self.kinds = card.point_kinds
        self.tasks = name_tasks(self.inputs.rows)
        self._encodes = self._encoding(card)
        self.choice, encoder = batch_encoder(
            self._encodes, self.tasks, options, device, out, dry_run=dry_run
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
        ids = [task.slide_id for task in self.tasks]
        self.folder = None if out is None else RunFolder(out, configuration, ids, make=not dry_run)

    def run(
        self,
        on_event: Callable[[Task, Event], None] = lambda task, event: None,
        on_outcome: Callable[[Task, Outcome], None] = lambda task, outcome: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Run:
        """Score all slides; a bad one gets a failed row and the batch goes on.

        When `cancelled`, the slide in hand is abandoned (its stored regions stay stored) and the
        rest get rows that say so.

        Raises:
            OutputError: The output cannot be written.
        """
        report = RunReport(self.folder, self.device, self.inputs, self.choice, self.tasks)
        if self.folder is not None:
            self.folder.write_local(self._local())
        table = SlideTable(self.folder, self.tasks, self.classes, self.kinds)
        outcomes: list[Outcome] = []

        def work(task: Task) -> Outcome:
            return run_task(
                task,
                self._model,
                self._options,
                self.folder,
                self._engine,
                lambda event: watch(task, event),
                cancelled,
            )

        def watch(task: Task, event: Event) -> None:
            if isinstance(event, RegionsScored):
                following.watch(task, event.done, event.total)
            on_event(task, event)

        def take(task: Task, outcome: Outcome) -> None:
            outcomes.append(outcome if self.folder is None else _light(outcome))
            on_outcome(task, outcome)

        following = Following(self.tasks, self.folder, self._begin)
        with closing(self._engine.ahead):
            stopped = run_tasks(
                self.tasks,
                table,
                report,
                work,
                lambda task: finished_before(task, self._options, self.folder),
                take,
            )
        return Run(
            rows=table.rows,
            classes=self.classes,
            kinds=self.kinds,
            folder=None if self.folder is None else self.folder.path,
            score_maps={
                outcome.row.id: outcome.score_map
                for outcome in outcomes
                if outcome.score_map is not None
            },
            found_points={
                outcome.row.id: outcome.points for outcome in outcomes if outcome.points is not None
            },
            stopped=stopped,
            seen_nan=any(outcome.seen_nan for outcome in outcomes),
            seconds=report.seconds,
        )

    def _encoding(self, card: ModelCard) -> Encodes:
        options, device = self._options, self.device

        def load() -> tuple[RegionEncoder, Judge | None]:
            model = self._engine.loaded.model(self._model, device, options.offline or None)
            return model.region_encoder, judge_of(model)

        return Encodes(
            what={"model": card.state_sha256},
            model_mpp=card.mpp(options.model_mpp),
            region_px=card.scored_px,
            stain=card.stain,
            load=load,
        )

    def _begin(self, task: Task) -> None:
        """Prepare the slide of a task while another one comes to its end."""
        encodes, spec = self._encodes, task.spec(self._model, self._options)
        wish = Wish(spec.slide, encodes.model_mpp, encodes.region_px, spec, encodes.stain)
        self._engine.ahead.begin(wish)

    def events(self, task: Task) -> Iterator[Event]:
        """The events of one task, without writing anything into the run directory."""
        return self._engine.run(task.spec(self._model, self._options))

    def _local(self) -> dict[str, Any]:
        cache = self._options.cache_dir()
        return {
            "arguments": self._arguments,
            "working_folder": str(Path.cwd()),
            "model": self._model,
            "cache": None if cache is None else str(cache.resolve()),
            "options": self._options.model_dump(mode="json"),
            "slides": {task.slide_id: str(task.source.path.resolve()) for task in self.tasks},
        }


def _light(outcome: Outcome) -> Outcome:
    """Without the map, which is in its file: memory must not grow with the batch."""
    return replace(outcome, score_map=None)


def score(
    slides: Path | str | Sequence[Path | str],
    model: str,
    out: Path | str | None = None,
    **options: Any,
) -> Run:
    """Score slides with a model: the command ``napari-xt score`` for scripts.

    Args:
        slides: A slide, a DICOM folder, a folder, a manifest CSV, or several of them.
        model: Name of a known model or path of a model file.
        out: Run directory; None keeps results in memory only.
        **options: Fields of `ScoreOptions`, e.g. ``slide_mpp=0.25``, ``context=False``.

    Returns:
        The run; `Run.slides` and `Run.regions` are pandas frames.

    Raises:
        UsageError: Something is wrong before work starts.
        DeviceError: A device, precision or encoder backend that cannot be had.
        OutputError: The output cannot be written.
    """
    listed = [slides] if isinstance(slides, str | Path) else list(slides)
    checked = ScoreOptions.checked(options)
    folder = None if out is None else Path(out)
    return Batch([Path(item) for item in listed], str(model), folder, checked).run()
