"""Who gets which task, and what becomes of it when workers are lost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from xt_backend.batch import InputRow, Outcome, Task
from xt_backend.batch.engines import dispatch as dispatch_module
from xt_backend.batch.engines.dispatch import dispatch
from xt_backend.batch.engines.messages import Broke, Done, GaveUp, Lost, Message, NearEnd, Ready
from xt_backend.errors import BackendDiedError, EngineError, NoSpaceError, XTError
from xt_backend.keys import SlideStatus, Stopped
from xt_backend.outputs import SlideRow


def tasks(n: int) -> list[Task]:
    return [Task(InputRow(row, Path(f"s{row}.svs")), f"s{row}") for row in range(n)]


def outcome(task: Task, reason: str = "") -> Outcome:
    status = SlideStatus.FAILED if reason else SlideStatus.DONE
    return Outcome(SlideRow(task.source.row, task.name, task.slide_id, status, reason))


class FakeJob:
    folder = None

    def failed(self, task: Task, error: XTError) -> Outcome:
        return outcome(task, str(error))


@dataclass
class FakeCrew:
    """Answers at once; `fates` says what comes instead, by slide, each once.

    Over slides among `waits` it answers when nobody else has anything to say. What comes instead
    comes before a slide is near its end, but for those among `late`.
    """

    fates: dict[str, list[Message]] = field(default_factory=dict)
    starts: list[Message] = field(default_factory=list)
    hired: list[int] = field(default_factory=list)
    given: list[tuple[int, str]] = field(default_factory=list)
    announced: list[tuple[int, str]] = field(default_factory=list)
    cancelled: bool = False
    silent: bool = False
    waits: set[str] = field(default_factory=set)
    late: set[str] = field(default_factory=set)
    _last: list[tuple[int, Message]] = field(default_factory=list)
    _words: list[tuple[int, Message]] = field(default_factory=list)

    def hire(self, number: int) -> None:
        self.hired.append(number)
        self._words.append((number, self.starts.pop(0) if self.starts else Ready()))

    def give(self, number: int, task: Task) -> None:
        self.given.append((number, task.slide_id))
        fate = self.fates.get(task.slide_id)
        if not self.silent:
            if not fate or task.slide_id in self.late:
                self._words.append((number, NearEnd()))
            words = self._last if task.slide_id in self.waits else self._words
            words.append((number, fate.pop(0) if fate else Done(outcome(task))))

    def announce(self, number: int, task: Task) -> None:
        self.announced.append((number, task.slide_id))

    def cancel(self) -> None:
        self.cancelled = True

    def hear(self, timeout_s: float) -> Iterable[tuple[int, Message]]:
        words, self._words = self._words, []
        if not words:  # those who were waited for
            words, self._last = self._last, []
        return words


def done(
    crew: FakeCrew, n_workers: int, n: int, cancelled: Any = lambda: False, **more: Any
) -> dict[str, Any]:
    job: Any = FakeJob()
    given = tasks(n)
    found = list(dispatch(crew, n_workers, job, given, lambda task, event: None, cancelled, **more))
    assert len({task.slide_id for task, _ in found}) == len(found)
    return {
        task.slide_id: result if isinstance(result, Stopped) else result.row.reason
        for task, result in found
    }


def test_every_task_is_given_once_in_order_to_whoever_is_free() -> None:
    crew = FakeCrew()
    assert done(crew, 2, 5) == dict.fromkeys(("s0", "s1", "s2", "s3", "s4"), "")
    assert [slide for _, slide in crew.given] == ["s0", "s1", "s2", "s3", "s4"]
    assert {number for number, _ in crew.given} == {0, 1}


def test_a_worker_is_told_what_it_gets_next() -> None:
    crew = FakeCrew()
    done(crew, 1, 4)
    assert crew.announced == crew.given[1:]


def test_no_two_workers_prepare_the_same_slide_and_each_gets_its_own() -> None:
    crew = FakeCrew()
    done(crew, 2, 6)
    assert len(set(crew.announced)) == len({slide for _, slide in crew.announced}) == 4
    assert set(crew.announced) < set(crew.given)


def test_nothing_is_kept_for_whoever_has_prepared_it() -> None:
    """One worker is lost with the last slide prepared, or is slower than the other."""
    crew = FakeCrew(
        fates={"s0": [Lost("signal 9")]}, starts=[Ready(), Lost("no room")], late={"s0"}
    )
    assert done(crew, 1, 2) == {"s0": "", "s1": ""}
    assert crew.announced[0] == (0, "s1")
    slow = FakeCrew(waits={"s0"})
    assert done(slow, 2, 3) == {"s0": "", "s1": "", "s2": ""}
    assert slow.announced == [(0, "s2")]
    assert slow.given == [(0, "s0"), (1, "s1"), (1, "s2")]


def test_what_has_no_slide_to_prepare_is_not_announced() -> None:
    crew = FakeCrew()
    job: Any = FakeJob()
    first, second, third = tasks(3)
    bad = replace(second, source=replace(second.source, problem="no slide"))
    list(dispatch(crew, 1, job, [first, bad, third], lambda task, told: None, lambda: False))
    assert crew.announced == [(0, "s2")]
    assert [slide for _, slide in crew.given] == ["s0", "s2", "s1"]


def test_no_more_workers_are_hired_than_there_are_tasks() -> None:
    crew = FakeCrew()
    done(crew, 8, 2)
    assert crew.hired == [0, 1]


def test_the_task_of_a_lost_worker_goes_to_another_at_once() -> None:
    crew = FakeCrew(fates={"s1": [Lost("signal 9")]})
    assert set(done(crew, 1, 4).values()) == {""}
    assert [slide for _, slide in crew.given] == ["s0", "s1", "s1", "s2", "s3"]
    assert crew.hired == [0, 0]


def test_a_slide_that_two_workers_were_lost_over_fails_with_the_cause() -> None:
    crew = FakeCrew(fates={"s1": [Lost("signal 11"), Lost("signal 11")]})
    found = done(crew, 2, 4)
    assert "signal 11, twice with this slide" in found.pop("s1")
    assert found == {"s0": "", "s2": "", "s3": ""}


def test_a_slide_with_a_verdict_is_not_tried_again() -> None:
    verdict = EngineError("Nothing moved", "Leave it out")
    crew = FakeCrew(fates={"s1": [Lost("silence", verdict)]})
    found = done(crew, 1, 3, expect_losses=True)
    assert found == {"s0": "", "s1": "Nothing moved. Leave it out.", "s2": ""}
    assert [slide for _, slide in crew.given] == ["s0", "s1", "s2"]


def test_which_of_two_is_held_shows_when_each_is_alone() -> None:
    verdict = EngineError("Nothing moved", "Leave it out")
    fates: dict[str, list[Message]] = {
        "s0": [Lost("silence", verdict)],
        "s1": [Lost("silence", verdict)],
    }
    crew = FakeCrew(fates=fates, late={"s0"})
    found = done(crew, 1, 3, expect_losses=True)
    assert found == {"s0": "", "s1": "Nothing moved. Leave it out.", "s2": ""}


def test_a_slide_does_not_fail_for_the_next_one_that_kills_when_it_is_prepared() -> None:
    fates: dict[str, list[Message]] = {
        "s0": [Lost("signal 11")],
        "s1": [Lost("signal 11"), Lost("signal 11")],
    }
    crew = FakeCrew(fates=fates, late={"s0"})
    found = done(crew, 1, 4)
    assert "twice with this slide" in found.pop("s1")
    assert found == {"s0": "", "s2": "", "s3": ""}
    assert [slide for _, slide in crew.announced].count("s1") == 1


@pytest.mark.parametrize("expect_losses", [False, True])
def test_workers_that_never_start_end_the_batch(expect_losses: bool) -> None:
    crew = FakeCrew(starts=[Lost("exit code 1")] * 50)
    with pytest.raises(BackendDiedError, match=r"one after another.*exit code 1"):
        done(crew, 2, 9, expect_losses=expect_losses)
    assert len(crew.hired) < 20


def test_slides_that_workers_die_over_end_the_batch_only_where_nobody_expects_them() -> None:
    deadly = {f"s{n}": [Lost("signal 11")] * 2 for n in range(1, 9)}
    crew = FakeCrew(fates={name: list(fate) for name, fate in deadly.items()})
    found = done(crew, 1, 10, expect_losses=True)
    assert {name for name, reason in found.items() if "twice with this slide" in reason} == set(
        deadly
    )
    assert found["s0"] == found["s9"] == ""
    with pytest.raises(BackendDiedError, match="one after another"):
        done(FakeCrew(fates=deadly), 1, 10)


def test_an_error_that_ends_the_batch_is_raised() -> None:
    crew = FakeCrew(fates={"s2": [Broke(NoSpaceError("No space left", "Free some"))]})
    with pytest.raises(NoSpaceError, match="No space left"):
        done(crew, 1, 5)
    assert [slide for _, slide in crew.given] == ["s0", "s1", "s2"]


def test_what_is_in_hand_is_given_up_and_nothing_more_begun() -> None:
    crew = FakeCrew(fates={"s1": [GaveUp(Stopped.INTERRUPTED)]})
    found = done(crew, 1, 9, lambda: len(crew.given) == 2)
    assert crew.cancelled
    assert found == {"s0": "", "s1": Stopped.INTERRUPTED}


def test_workers_that_do_not_answer_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch_module, "PATIENCE_S", 0.0)
    crew = FakeCrew(silent=True)
    found = done(crew, 2, 3, lambda: bool(crew.given))
    assert found == dict.fromkeys(("s0", "s1"), Stopped.INTERRUPTED)
