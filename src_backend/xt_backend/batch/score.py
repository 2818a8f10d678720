"""Score any number of slides, one after another, with a row for each."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from xt_backend.config import ScoreOptions
from xt_backend.engine import Engine, Event, choose_device
from xt_backend.errors import ModelError
from xt_backend.keys import PRODUCT, RESEARCH_USE, RunFile, SlideStatus
from xt_backend.model import find_model, read_card
from xt_backend.outputs import SlideRow, safe_ids, write_slides_csv

from .configuration import score_configuration, versions
from .folder import RunFolder
from .inputs import Inputs, read_inputs
from .result import Run
from .task import Interrupted, Outcome, Task, run_task

__all__ = ["Batch", "score"]

TABLE_INTERVAL_S = 5.0
"""slides.csv is published at most this often while the batch goes on."""


class Batch:
    """A planned batch.

    Args:
        inputs: Slides, folders, manifests.
        model: Name or file of a model.
        out: Run directory; None keeps results in memory only.

    Raises:
        UsageError: Anything that is wrong before work starts: no such path or model, a device
            that is not there, an output folder with something else in it.
    """

    def __init__(
        self, inputs: Sequence[Path], model: str, out: Path | None, options: ScoreOptions
    ) -> None:
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
        self._card = card
        self._options = options
        device = choose_device(options.device, options.precision)
        self.device = device
        self.classes = tuple(item.name for item in card.classes)
        self.kinds = card.point_kinds
        ids = safe_ids([row.path.name for row in self.inputs.rows])
        self.tasks = tuple(
            Task(row, slide_id) for row, slide_id in zip(self.inputs.rows, ids, strict=True)
        )
        configuration = score_configuration(
            options, card.name, card.state_sha256, device.name, device.precision
        )
        self.folder = None if out is None else RunFolder(out, configuration)

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
        started = datetime.now(UTC)
        self._write_run("running", started, [])
        engine = Engine()
        rows: list[SlideRow] = []
        outcomes: list[Outcome] = []
        interrupted = False
        last_table = time.monotonic()
        for task in self.tasks:
            if not interrupted:
                try:
                    outcome = run_task(
                        task,
                        self._model,
                        self._options,
                        self.folder,
                        engine,
                        lambda event, task=task: on_event(task, event),  # type: ignore[misc]
                        cancelled,
                    )
                except Interrupted:
                    interrupted = True
            if interrupted:
                rows.append(_not_reached(task))
                continue
            rows.append(outcome.row)
            outcomes.append(outcome if self.folder is None else _light(outcome))
            on_outcome(task, outcome)
            if time.monotonic() - last_table > TABLE_INTERVAL_S:
                self._write_table(rows)
                last_table = time.monotonic()
        self._write_table(rows)
        self._write_run("interrupted" if interrupted else "finished", started, rows)
        return Run(
            rows=tuple(rows),
            classes=self.classes,
            kinds=self.kinds,
            folder=None if self.folder is None else self.folder.path,
            score_maps={
                outcome.row.id: outcome.score_map for outcome in outcomes if outcome.score_map
            },
            found_points={
                outcome.row.id: outcome.points for outcome in outcomes if outcome.points is not None
            },
            interrupted=interrupted,
            seen_nan=any(outcome.seen_nan for outcome in outcomes),
        )

    def events(self, task: Task) -> Iterator[Event]:
        """The events of one task, without writing anything."""
        return Engine().run(task.spec(self._model, self._options))

    def _write_table(self, rows: list[SlideRow]) -> None:
        if self.folder is not None:
            path = self.folder.path / RunFile.SLIDES_CSV
            write_slides_csv(path, rows, self.classes, self.kinds)

    def _write_run(self, state: str, started: datetime, rows: list[SlideRow]) -> None:
        if self.folder is None:
            return
        counts = {status: sum(row.status == status for row in rows) for status in SlideStatus}
        self.folder.write_run(
            {
                "product": PRODUCT,
                "notice": RESEARCH_USE,
                "state": state,
                "started": started.isoformat(timespec="seconds"),
                "ended": datetime.now(UTC).isoformat(timespec="seconds"),
                "versions": versions(),
                "device": {"name": self.device.name, "reason": self.device.reason},
                "slides": {str(status): count for status, count in counts.items()},
                "passed_over": [
                    {"file": path.name, "reason": reason}
                    for path, reason in self.inputs.passed_over
                ],
            }
        )
        self.folder.write_local(self._local())

    def _local(self) -> dict[str, Any]:
        cache = self._options.cache_dir()
        return {
            "arguments": sys.argv,
            "working_folder": str(Path.cwd()),
            "model": self._model,
            "cache": None if cache is None else str(cache.resolve()),
            "options": self._options.model_dump(mode="json"),
            "slides": {task.slide_id: str(task.source.path.resolve()) for task in self.tasks},
        }


def _light(outcome: Outcome) -> Outcome:
    """Without the map, which is in its file: memory must not grow with the batch."""
    return Outcome(outcome.row, None, outcome.seen_nan)


def _not_reached(task: Task) -> SlideRow:
    return SlideRow(
        row=task.source.row,
        slide=task.name,
        id=task.slide_id,
        status=SlideStatus.FAILED,
        reason="Interrupted before this slide was done. Run the same command again to go on.",
    )


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
        OutputError: The output cannot be written.
    """
    listed = [slides] if isinstance(slides, str | Path) else list(slides)
    checked = ScoreOptions.checked(options)
    folder = None if out is None else Path(out)
    return Batch([Path(item) for item in listed], str(model), folder, checked).run()
