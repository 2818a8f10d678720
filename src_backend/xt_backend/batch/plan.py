"""Which slides a batch works on, under which names and in which order."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

from xt_backend.config import CommonOptions, ScoreOptions
from xt_backend.engine import RunSpec
from xt_backend.outputs import safe_ids

from .inputs import InputRow, Inputs

__all__ = ["Task", "in_rows", "plan"]

OptionsType = TypeVar("OptionsType", bound=CommonOptions)

_TWICE = (
    "The inputs name this slide twice, with the same pixel size and ROI: {} is the same. "
    "Leave one of the two out."
)


@dataclass(frozen=True)
class Task:
    """A row of the inputs with the identifier of its outputs.

    Plain data: it may be pickled and worked on by another process.

    Attributes:
        slide_id: Unique in the run; the stem of its files.
    """

    source: InputRow
    slide_id: str

    @property
    def name(self) -> str:
        """File name, the only thing of the path that outputs may show."""
        return self.source.name

    def own_options(self, options: OptionsType) -> OptionsType:
        """The batch's options with what the manifest says of this slide."""
        own = {"slide_mpp": self.source.slide_mpp, "roi": self.source.roi}
        return options.model_copy(update={k: v for k, v in own.items() if v is not None})

    def spec(self, model: str, options: ScoreOptions) -> RunSpec:
        """What the engine is asked to do for this slide."""
        values = self.own_options(options).model_dump()
        return RunSpec(
            **values,
            slide=self.source.path,
            model=model,
            slide_id=self.slide_id,
            slide_name=self.source.shown,
        )


def plan(inputs: Inputs, options: CommonOptions) -> tuple[Task, ...]:
    """The tasks of a batch, in the order in which they should be done.

    Pure: no file is touched. First come rows that cannot be worked on, which takes no time and is
    better known early, then the slides by the size of their files, longest first, so that workers
    come to their ends together.

    Args:
        inputs: Rows, one a task.
        options: Of the batch; they say which rows ask for the same thing twice.
    """
    # Pseudonyms are safe as they are.
    ids = safe_ids([row.name for row in inputs.rows])
    first: dict[tuple[str, str, str], InputRow] = {}
    tasks = []
    for row, slide_id in zip(inputs.rows, ids, strict=True):
        task = Task(row, slide_id)
        if not row.problem:
            own = task.own_options(options)
            key = (os.path.normpath(row.path), str(own.slide_mpp), str(own.roi))
            earlier = first.setdefault(key, row)
            if earlier is not row:
                problem = _TWICE.format(earlier.place or f"row {earlier.row}")
                task = Task(replace(row, problem=row.told(problem)), slide_id)
        tasks.append(task)
    return tuple(sorted(tasks, key=_urgency))


def in_rows(tasks: Iterable[Task]) -> tuple[Task, ...]:
    """Tasks in the order of the inputs, which is that of the table."""
    return tuple(sorted(tasks, key=lambda task: task.source.row))


def _urgency(task: Task) -> tuple[bool, int, int]:
    return not task.source.problem, -task.source.n_bytes, task.source.row
