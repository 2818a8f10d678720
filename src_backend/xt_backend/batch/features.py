"""Region features of any number of slides, without any prediction."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from xt_backend.config import FeatureOptions
from xt_backend.engine import (
    BatchEncoder,
    Prepared,
    choose_device,
    collect,
    prepare,
)
from xt_backend.errors import SlideError, XTError
from xt_backend.keys import Encoding, RunFile, SlideStatus
from xt_backend.model import build_region_encoder
from xt_backend.outputs import FeatureTable, SlideRow, safe_ids, write_features_h5, write_slides_csv

from .configuration import plain_options, versions
from .folder import RunFolder
from .inputs import read_inputs
from .result import Run
from .task import Interrupted, Task, failed_row

__all__ = ["FeatureBatch", "features"]


class FeatureBatch:
    """A planned extraction.

    Args:
        inputs: Slides, folders, manifests.
        encoder: timm name of a region encoder.
        out: Folder for one HDF5 file per slide and slides.csv.

    Raises:
        UsageError: Anything that is wrong before work starts.
    """

    def __init__(
        self, inputs: Sequence[Path], encoder: str, out: Path, options: FeatureOptions
    ) -> None:
        self.inputs = read_inputs(inputs)
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
        self._encoder = BatchEncoder(net, self.device)
        ids = safe_ids([row.path.name for row in self.inputs.rows])
        self.tasks = tuple(
            Task(row, slide_id) for row, slide_id in zip(self.inputs.rows, ids, strict=True)
        )
        configuration = {
            "command": "features",
            "numerics": self._encoder.numerics(),
            "options": plain_options(options),
        }
        self.folder = RunFolder(out, configuration)

    def run(
        self,
        on_progress: Callable[[Task, int, int], None] = lambda task, done, total: None,
        on_outcome: Callable[[Task, SlideRow], None] = lambda task, row: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Run:
        """Extract all slides; a bad one gets a failed row and no file.

        Args:
            on_progress: Told the task, regions done and regions in all.
            on_outcome: Told the task and its row.
            cancelled: Asked after every read batch.
        """
        started = datetime.now(UTC).isoformat(timespec="seconds")
        self.folder.write_run({"state": "running", "started": started, "versions": versions()})
        rows: list[SlideRow] = []
        interrupted = False
        for task in self.tasks:
            if not interrupted:
                try:
                    row = self._row(task, on_progress, cancelled)
                except Interrupted:
                    interrupted = True
            if interrupted:
                rows.append(failed_row(task, "Interrupted. Run the same command again to go on."))
                continue
            rows.append(row)
            on_outcome(task, row)
            write_slides_csv(self.folder.path / RunFile.SLIDES_CSV, rows, ())
        write_slides_csv(self.folder.path / RunFile.SLIDES_CSV, rows, ())
        self.folder.write_run(
            {
                "state": "interrupted" if interrupted else "finished",
                "started": started,
                "ended": datetime.now(UTC).isoformat(timespec="seconds"),
                "versions": versions(),
                "device": {"name": self.device.name, "reason": self.device.reason},
            }
        )
        return Run(tuple(rows), (), self.folder.path, interrupted=interrupted)

    def _row(
        self,
        task: Task,
        on_progress: Callable[[Task, int, int], None],
        cancelled: Callable[[], bool],
    ) -> SlideRow:
        if task.source.problem:
            return failed_row(task, task.source.problem)
        try:
            prepared = prepare(
                task.source.path,
                self._options.model_mpp,
                self._options.region_px,
                task.own_options(self._options),
            )
            with prepared.slide:
                return self._extract(task, prepared, on_progress, cancelled)
        except (SlideError, MemoryError) as error:
            reason = str(error) if isinstance(error, XTError) else "Out of memory."
            return failed_row(task, reason)

    def _extract(
        self,
        task: Task,
        prepared: Prepared,
        on_progress: Callable[[Task, int, int], None],
        cancelled: Callable[[], bool],
    ) -> SlideRow:
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
        write_features_h5(self.folder.file(task.slide_id, RunFile.FEATURES), table)
        encoded = self._encoder.n_encoded - n_before
        failed = int((~found.scored).sum())
        info = prepared.slide.info
        row = SlideRow(
            row=task.source.row,
            slide=task.name,
            id=task.slide_id,
            status=SlideStatus.DONE if len(cells) else SlideStatus.EMPTY,
            reason="" if len(cells) else "; ".join(prepared.notes) or "no tissue was found",
            slide_mpp=prepared.mpp.value,
            mpp_source=prepared.mpp.source,
            width_px=info.width_px,
            height_px=info.height_px,
            n_regions=len(cells),
            n_failed_regions=failed,
        )
        return replace(
            row,
            seconds_read=found.seconds_read,
            seconds_encode=self._encoder.seconds - encode_before,
            seconds_total=time.perf_counter() - started,
            encoded_regions=encoded,
            cache=_cache_use(len(cells) - failed, encoded),
        )


def _cache_use(n_scored: int, encoded: int) -> str:
    if encoded == 0:
        return str(Encoding.HIT if n_scored else Encoding.MISS)
    return str(Encoding.PARTIAL if encoded < n_scored else Encoding.MISS)


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
        OutputError: The output cannot be written.
    """
    listed = [slides] if isinstance(slides, str | Path) else list(slides)
    checked = FeatureOptions.checked(options)
    return FeatureBatch([Path(item) for item in listed], encoder, Path(out), checked).run()
