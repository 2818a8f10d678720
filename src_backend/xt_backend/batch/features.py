"""Region features of any number of slides, without any prediction."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from xt_backend.config import FeatureOptions, check_stride
from xt_backend.engine import (
    Ahead,
    BatchEncoder,
    Collected,
    Prepared,
    Stages,
    Wish,
    choose_device,
    collect,
    features_shape,
)
from xt_backend.keys import Encoding, SlideStatus, Stopped
from xt_backend.model import build_region_encoder
from xt_backend.outputs import (
    FeatureKind,
    FeatureTable,
    SlideRow,
    get_layout,
    write_features,
)
from xt_backend.slides.reading import wants_direct
from xt_backend.store import ScratchRows

from .configuration import plain_options
from .encoding import Encodes, batch_encoder
from .folder import RunFolder
from .following import Following
from .inputs import read_inputs
from .loop import Results, run_tasks
from .outcome import Interrupted, Outcome
from .plan import Task, in_rows, plan
from .report import RunReport, facts_of
from .result import Run
from .retry import unfinished
from .rows import reason_of
from .summary import take_known
from .table import SlideTable
from .task import attempt

__all__ = ["FeatureBatch", "features"]


class FeatureBatch:
    """A planned extraction.

    Args:
        inputs: Slides, folders, manifests.
        encoder: timm name of a region encoder.
        out: Folder for the files of `FeatureOptions.layout` and slides.csv.
        retry_failed: Leave alone what the run in `out` has finished, without a look at it.

    Attributes:
        tasks: All of the batch, in the order of the inputs.
        todo: Those that are to be done, in the order in which they are begun.

    Raises:
        UsageError: Anything that is wrong before work starts.
        DeviceError: A device, precision or encoder backend that cannot be had.
        OutputError: The output folder cannot be made.
    """

    def __init__(
        self,
        inputs: Sequence[Path],
        encoder: str,
        out: Path,
        options: FeatureOptions,
        *,
        retry_failed: bool = False,
    ) -> None:
        self._stages = Stages()
        wants_direct()  # A wrong wish is told before any work
        self.inputs = read_inputs(inputs)
        check_stride(options.stride_px, options.region_px)
        self._options = options
        self._layout = get_layout(options.layout)
        kind = FeatureKind(
            encoder,
            options.model_mpp,
            options.region_px,
            options.stride_px or options.region_px,
            options.level,
        )
        self._layout.check(options.level)
        self.device = choose_device(options.device, options.precision)
        with self._stages.timed("load"):
            net = build_region_encoder(
                encoder,
                region_px=options.region_px,
                input_px=options.input_px,
                tokens_per_region=options.tokens_per_region,
                pooling=options.pooling,
                weights=options.weights,
                offline=True if options.offline else None,
            )
        ordered = plan(self.inputs, options)
        self.tasks = in_rows(ordered)
        encodes = Encodes(
            what=net.numerics(),
            model_mpp=options.model_mpp,
            region_px=options.region_px,
            stain=None,
            load=lambda: (net, None),
        )
        with self._stages.timed("probe"):
            self.choice, opened = batch_encoder(encodes, self.tasks, options, self.device, out)
        self._ahead = Ahead()
        self._encoder = opened or BatchEncoder(net, self.device)
        configuration = {
            "command": "features",
            "numerics": self._encoder.numerics(),
            "options": plain_options(options),
            **self._encoder.told(),
        }
        self._encoder_name = encoder
        self.folder = RunFolder(
            out, configuration, result=lambda name: self._layout.files(kind, name)
        )
        self._previous = self.folder.claim([task.slide_id for task in self.tasks])
        self.todo = ordered
        if retry_failed:
            self.todo = unfinished(self.folder, ordered, options, self._previous)

    def run(
        self,
        on_progress: Callable[[Task, int, int], None] = lambda task, done, total: None,
        on_outcome: Callable[[Task, Outcome], None] = lambda task, outcome: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Run:
        """Extract all slides; a bad one gets a failed row and no file.

        Args:
            on_progress: Told the task, regions done and regions in all.
            on_outcome: Told the task and how it went.
            cancelled: Asked after every read batch.
        """
        facts = facts_of(self.device, self.inputs, self.choice, self._previous)
        report = RunReport(self.folder, facts, self._stages)
        table = SlideTable(self.folder, self.tasks, ())
        known = take_known(self.folder, self.tasks, table, report)
        report.write("running", {})  # first: it says whose the folder is
        self.folder.write_plan(self.tasks, (), (), facts)
        outcomes = dict(known)

        def recover(task: Task) -> Outcome | None:
            # The file is of this configuration, as the whole folder is.
            return known.get(task.slide_id)

        def take(task: Task, outcome: Outcome) -> None:
            outcomes[task.slide_id] = outcome
            on_outcome(task, outcome)

        def watch(task: Task, done: int, total: int) -> None:
            following.watch(task, done, total)
            on_progress(task, done, total)

        def results() -> Results:
            for task in self.todo:
                try:
                    yield task, self._run_task(task, watch, cancelled)
                except Interrupted as interrupted:
                    yield task, interrupted.how
                    return

        following = Following(self.todo, self.folder, self._begin)
        with closing(self._ahead):
            stopped = run_tasks(self.todo, table, report, results(), recover, take)
        return Run(
            rows=table.rows,
            classes=(),
            folder=self.folder.path,
            stopped=stopped,
            seen_nan=any(outcome.seen_nan for outcome in outcomes.values()),
            seconds=report.seconds,
            passed_over=tuple(self.inputs.passed_over_values()),
        )

    def _wish(self, task: Task) -> Wish:
        options = task.own_options(self._options)
        return Wish(task.source.path, options.model_mpp, options.region_px, options)

    def _begin(self, task: Task) -> None:
        """Prepare the slide of a task while another one comes to its end."""
        self._ahead.begin(self._wish(task))

    def _run_task(
        self,
        task: Task,
        on_progress: Callable[[Task, int, int], None],
        cancelled: Callable[[], bool],
    ) -> Outcome:
        def work() -> Outcome:
            if cancelled():
                raise Interrupted(Stopped.NOT_STARTED)
            stages = Stages()
            with stages.timed("open"):
                prepared = self._ahead.take(self._wish(task))
            with prepared.slide:
                return self._extract(task, prepared, stages, on_progress, cancelled)

        return attempt(task, self._options, self.folder, work)

    def _extract(
        self,
        task: Task,
        prepared: Prepared,
        stages: Stages,
        on_progress: Callable[[Task, int, int], None],
        cancelled: Callable[[], bool],
    ) -> Outcome:
        options = self._options
        started = time.perf_counter()
        n_before = self._encoder.n_encoded
        info = prepared.slide.info
        # Not in memory, which would then grow with the slide.
        with ScratchRows.made_in(
            self.folder.path, features_shape(prepared, self._encoder)
        ) as features:
            found = collect(
                prepared,
                self._encoder,
                options,
                features,
                lambda done, total: on_progress(task, done, total),
                cancelled,
            )
            if not found.complete:
                raise Interrupted
            stages.add(found.seconds)
            outcome = self._outcome(
                task,
                prepared,
                found,
                stages,
                time.perf_counter() - started,
                self._encoder.n_encoded - n_before,
            )
            table = FeatureTable(
                slide_id=task.slide_id,
                size_px=(info.width_px, info.height_px),
                lattice=prepared.lattice,
                cells=prepared.cells,
                status=found.status,
                features=features,
                numerics=self._encoder.numerics(),
                encoder=self._encoder_name,
                tissue=prepared.tissue_shares(),
                level=options.level,
            )
            with stages.timed("write"):
                self.folder.note(outcome)
                write_features(self._layout, self.folder.path, table)
        return replace(outcome, seconds=stages.to_dict())

    def _outcome(
        self,
        task: Task,
        prepared: Prepared,
        found: Collected,
        stages: Stages,
        seconds_total: float,
        encoded: int,
    ) -> Outcome:
        info, n = prepared.slide.info, len(prepared.cells)
        failed = int((~found.scored).sum())
        row = SlideRow(
            row=task.source.row,
            slide=task.name,
            id=task.slide_id,
            status=SlideStatus.DONE if n else SlideStatus.EMPTY,
            reason=reason_of(
                n,
                notes=prepared.notes,
                warnings=prepared.warnings,
                n_failed=failed,
                n_nan=found.n_nan,
            ),
            slide_mpp=prepared.mpp.value,
            mpp_source=prepared.mpp.source,
            width_px=info.width_px,
            height_px=info.height_px,
            n_regions=n,
            n_failed_regions=failed,
            seconds_read=found.seconds["read"],
            seconds_encode=found.seconds["encode"],
            seconds_total=seconds_total,
            encoded_regions=encoded,
            cache=str(Encoding.of(found.reused, encoded)),
        )
        return Outcome(
            row,
            seen_nan=found.n_nan > 0,
            problems=found.problems,
            reader=str(prepared.slide.reading),
            seconds=stages.to_dict(),
            configuration=self.folder.digest(task.own_options(self._options)),
        )


def features(
    slides: Path | str | Sequence[Path | str], encoder: str, out: Path | str, **options: Any
) -> Run:
    """Export region features: the command ``napari-xt features`` for scripts.

    Args:
        slides: A slide, a DICOM folder, a folder, a manifest, or several of them.
        encoder: timm name of a region encoder, e.g. ``tf_efficientnet_lite0``.
        out: Folder for the files of the layout and slides.csv.
        **options: Fields of `FeatureOptions`, e.g. ``model_mpp=0.5``, ``region_px=256``.

    Raises:
        UsageError: Something is wrong before work starts.
        DeviceError: A device, precision or encoder backend that cannot be had.
        OutputError: The output cannot be written.

    Returns:
        The run; `Run.slides` has a row for every input, and `Run.folder` the files.

    Example:
        >>> import h5py
        >>> import xt_backend as xt
        >>> run = xt.features(
        ...     "slide.tiff",
        ...     "tf_efficientnet_lite0",
        ...     "features",
        ...     weights="random",  # "pretrained" if left out
        ...     model_mpp=2.0,
        ...     region_px=128,
        ...     layout="h5",
        ... )
        >>> with h5py.File(run.folder / "slide.h5") as file:
        ...     features, coords = file["features"][:], file["coords"][:]  # coords: level-0 px
        >>> features.shape == (run.slides["n_regions"][0], 1280), features.dtype, coords.shape[1]
        (True, dtype('float32'), 2)
    """
    listed = [slides] if isinstance(slides, str | Path) else list(slides)
    checked = FeatureOptions.checked(options)
    return FeatureBatch([Path(item) for item in listed], encoder, Path(out), checked).run()
