"""The ledger of a run against a dictionary: outcomes, kills, damage, later calls, other tables."""

from __future__ import annotations

import csv
import shutil
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from xt_backend.batch import InputRow, Outcome, Task, summarise
from xt_backend.batch.folder import RunFolder
from xt_backend.keys import SlideStatus
from xt_backend.outputs import SlideRow

CONFIGURATION = {"command": "features", "options": {}}
FACTS = {"started": "then", "versions": {}, "device": {}, "encoder": {}, "passed_over": []}
TASKS = [Task(InputRow(row, Path(f"s{row}.svs")), f"s{row}") for row in range(4)]
SLIDES = st.sampled_from(TASKS)
TEXTS = st.sampled_from(["", "It is no slide. Copy it again.", "=1+1", '\n\0"é\N{MICROSCOPE}'])


class _Killed(BaseException):
    """The process is gone."""


class LedgerMachine(RuleBasedStateMachine):
    """`known` holds what was published, by slide, with the call that did it."""

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp())
        self.known: dict[str, tuple[Outcome, str]] = {}
        self.folder = self.opened()

    def teardown(self) -> None:
        shutil.rmtree(self.path)

    def opened(self) -> RunFolder:
        """A call's folder, as the command leaves it before the first slide."""
        folder = RunFolder(self.path, CONFIGURATION, result=lambda i: (f"{i}.h5",))
        folder.claim([task.slide_id for task in TASKS])
        folder.write_run({"state": "running"})
        folder.write_plan(TASKS, ("a", "b"), (), FACTS)
        return folder

    def result(self, task: Task) -> Path:
        return self.path / f"{task.slide_id}.h5"

    def outcome(self, task: Task, status: SlideStatus, reason: str, share: float) -> Outcome:
        row = SlideRow(task.source.row, task.name, task.slide_id, status, reason)
        if status == SlideStatus.DONE:
            row = replace(row, n_regions=3, fractions={"a": share, "b": 1 - share})
        return Outcome(row, seen_nan=share > 0.9, problems=(reason,), seconds={"read": share})

    @rule(
        task=SLIDES,
        status=st.sampled_from([SlideStatus.DONE, SlideStatus.EMPTY]),
        reason=TEXTS,
        share=st.floats(0, 1),
    )
    def finish(self, task: Task, status: SlideStatus, reason: str, share: float) -> None:
        """As a worker does: the entry first, then the file that says that the slide is done."""
        self.folder.reopen(task.slide_id)
        outcome = self.outcome(task, status, reason, share)
        self.folder.note(outcome)
        self.result(task).write_bytes(b"whole")
        self.known[task.slide_id] = outcome, self.folder.call

    @rule(task=SLIDES, reason=TEXTS)
    def fail(self, task: Task, reason: str) -> None:
        outcome = self.outcome(task, SlideStatus.FAILED, reason, 0)
        self.folder.remove(task.slide_id)
        self.folder.note(outcome)
        self.known[task.slide_id] = outcome, self.folder.call

    @rule(task=SLIDES, before=st.booleans())
    def killed_while_it_publishes(self, task: Task, before: bool) -> None:
        """The slide is then not done: before its entry is there, or before its result is."""
        self.folder.reopen(task.slide_id)
        outcome = self.outcome(task, SlideStatus.DONE, "", 0.5)
        if before:
            with mock.patch("os.replace", side_effect=_Killed), suppress(_Killed):
                self.folder.note(outcome)
            entry = self.known.get(task.slide_id)
            if entry is not None and not entry[0].failed:
                del self.known[task.slide_id]
        else:
            self.folder.note(outcome)
            self.known.pop(task.slide_id, None)

    @rule(task=SLIDES, share=st.floats(0, 1, exclude_max=True))
    def cut(self, task: Task, share: float) -> None:
        """An entry that is cut counts for nothing."""
        path = self.folder.ledger.file(task.slide_id)
        if path.is_file():
            content = path.read_bytes()
            path.write_bytes(content[: int(share * (len(content) - 2))])
            self.known.pop(task.slide_id, None)

    @rule()
    def call_again(self) -> None:
        self.folder = self.opened()

    def wanted(self, task: Task) -> Outcome | None:
        outcome, call = self.known.get(task.slide_id, (None, ""))
        if outcome is None or call == self.folder.call:
            return outcome
        return None if outcome.failed else outcome.earlier(task.source.row, task.name)

    @invariant()
    def knows_what_was_published(self) -> None:
        for task in TASKS:
            assert self.folder.known(task) == self.wanted(task)

    @rule()
    def tables_from_it_alone(self) -> None:
        run = summarise(self.path)
        with (self.path / "slides.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["slide"] for row in rows] == [task.name for task in TASKS]
        for task, row in zip(TASKS, rows, strict=True):
            wanted = self.wanted(task)
            assert row["status"] == ("failed" if wanted is None else wanted.row.status)
        assert set(run.stopped) == {t.source.row for t in TASKS if self.wanted(t) is None}


# A quarter of the profile's examples: each is a folder on disk.
LedgerMachine.TestCase.settings = settings(
    max_examples=settings().max_examples // 4, stateful_step_count=15
)
TestLedgerMachine = LedgerMachine.TestCase
