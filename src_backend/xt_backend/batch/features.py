"""Region features of any number of slides, without any prediction."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from xt_backend.config import FeatureOptions, check_stride
from xt_backend.engine import (
    Ahead,
    BatchEncoder,
    Prepared,
    Stages,
    Wish,
    choose_device,
    collect,
)
from xt_backend.keys import Encoding, RunFile, SlideStatus, Stopped
from xt_backend.model import build_region_encoder
from xt_backend.outputs import FeatureTable, SlideRow, write_features_h5
from xt_backend.slides.reading import wants_direct

from .configuration import plain_options
from .encoding import Encodes, batch_encoder
from .folder import RunFolder
from .following import Following
from .inputs import read_inputs
from .loop import run_tasks
from .report import RunReport
from .result import Run
from .rows import reason_of
from .table import SlideTable
from .task import Interrupted, Outcome, Task, attempt, name_tasks

__all__ = ["FeatureBatch", "features"]


class FeatureBatch:
    """A planned extraction.

    Args:
        inputs: Slides, folders, manifests.
        encoder: timm name of a region encoder.
        out: Folder for one HDF5 file per slide and slides.csv.

    Raises:
        UsageError: Anything that is wrong before work starts.
        DeviceError: A device, precision or encoder backend that cannot be had.
        OutputError: The output folder cannot be made.
    """

    def __init__(
        self, inputs: Sequence[Path], encoder: str, out: Path, options: FeatureOptions
    ) -> None:
        wants_direct()  # A wrong wish is told before any work
        self.inputs = read_inputs(inputs)
        check_stride(options.stride_px, options.region_px)
        self._options = options
        self.device = choose_device(options.device, options.precision)
        net = build_region_encoder(
            encoder,
            region_px=options.region_px,
            input_px=options.input_px,
            tokens_per_region=options.tokens_per_region,
            pooling=options.pooling,
            weights=options.weights,
            offline=True if options.offline else None,
        )
        self.tasks = name_tasks(self.inputs.rows)
        encodes = Encodes(
            what=net.numerics(),
            model_mpp=options.model_mpp,
            region_px=options.region_px,
            stain=None,
            load=lambda: (net, None),
        )
        self.choice, opened = batch_encoder(encodes, self.tasks, options, self.device, out)
        self._ahead = Ahead()
        self._encoder = opened or BatchEncoder(net, self.device)
        configuration = {
            "command": "features",
            "numerics": self._encoder.numerics(),
            "options": plain_options(options),
            **self._encoder.told(),
        }
        ids = [task.slide_id for task in self.tasks]
        self.folder = RunFolder(out, configuration, ids, result=RunFile.FEATURES)

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
        report = RunReport(self.folder, self.device, self.inputs, self.choice, self.tasks)
        table = SlideTable(self.folder, self.tasks, ())
        seen_nan = False

        def recover(task: Task) -> Outcome | None:
            # The file is of this configuration, as the whole folder is.
            row = table.before(task.slide_id)
            return None if row is None else Outcome(row, kept=True)

        def take(task: Task, outcome: Outcome) -> None:
            nonlocal seen_nan
            seen_nan |= outcome.seen_nan
            on_outcome(task, outcome)

        def watch(task: Task, done: int, total: int) -> None:
            following.watch(task, done, total)
            on_progress(task, done, total)

        following = Following(self.tasks, self.folder, self._begin)
        with closing(self._ahead):
            stopped = run_tasks(
                self.tasks,
                table,
                report,
                lambda task: self._run_task(task, watch, cancelled),
                recover,
                take,
            )
        return Run(
            rows=table.rows,
            classes=(),
            folder=self.folder.path,
            stopped=stopped,
            seen_nan=seen_nan,
            seconds=report.seconds,
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
            prepared = self._ahead.take(self._wish(task))
            with prepared.slide:
                return self._extract(task, prepared, on_progress, cancelled)

        return attempt(task, self._options, self.folder, work)

    def _extract(
        self,
        task: Task,
        prepared: Prepared,
        on_progress: Callable[[Task, int, int], None],
        cancelled: Callable[[], bool],
    ) -> Outcome:
        options, cells = self._options, prepared.cells
        started = time.perf_counter()
        encode_before, n_before = self._encoder.seconds, self._encoder.n_encoded
        found = collect(
            prepared,
            self._encoder,
            options,
            lambda done, total: on_progress(task, done, total),
            cancelled,
        )
        if not found.complete:
            raise Interrupted
        table = FeatureTable(
            lattice=prepared.lattice,
            cells=cells,
            status=found.status,
            features=found.features,
            numerics=self._encoder.numerics(),
        )
        seconds_total = time.perf_counter() - started
        stages = Stages()
        stages.add({**found.seconds, "encode": self._encoder.seconds - encode_before})
        with stages.timed("write"):
            write_features_h5(self.folder.file(task.slide_id, RunFile.FEATURES), table)
        encoded = self._encoder.n_encoded - n_before
        failed = int((~found.scored).sum())
        info = prepared.slide.info
        row = SlideRow(
            row=task.source.row,
            slide=task.name,
            id=task.slide_id,
            status=SlideStatus.DONE if len(cells) else SlideStatus.EMPTY,
            reason=reason_of(
                len(cells),
                notes=prepared.notes,
                warnings=prepared.warnings,
                n_failed=failed,
                n_nan=found.n_nan,
            ),
            slide_mpp=prepared.mpp.value,
            mpp_source=prepared.mpp.source,
            width_px=info.width_px,
            height_px=info.height_px,
            n_regions=len(cells),
            n_failed_regions=failed,
            seconds_read=found.seconds["read"],
            seconds_encode=self._encoder.seconds - encode_before,
            seconds_total=seconds_total,
            encoded_regions=encoded,
            cache=str(Encoding.of(found.reused, encoded)),
        )
        reader = str(prepared.slide.reading)
        return Outcome(
            row,
            seen_nan=found.n_nan > 0,
            problems=found.problems,
            reader=reader,
            seconds=stages.to_dict(),
        )


def features(
    slides: Path | str | Sequence[Path | str], encoder: str, out: Path | str, **options: Any
) -> Run:
    """Export region features: the command ``napari-xt features`` for scripts.

    Args:
        slides: A slide, a DICOM folder, a folder, a manifest CSV, or several of them.
        encoder: timm name of a region encoder, e.g. ``tf_efficientnet_lite0``.
        out: Folder for one HDF5 file per slide and slides.csv.
        **options: Fields of `FeatureOptions`, e.g. ``model_mpp=0.5``, ``region_px=256``.

    Raises:
        UsageError: Something is wrong before work starts.
        DeviceError: A device, precision or encoder backend that cannot be had.
        OutputError: The output cannot be written.
    """
    listed = [slides] if isinstance(slides, str | Path) else list(slides)
    checked = FeatureOptions.checked(options)
    return FeatureBatch([Path(item) for item in listed], encoder, Path(out), checked).run()
