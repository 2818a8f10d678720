"""The session with a scripted backend: order, cancelling, hanging and dying backends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from napari_xt.run_session import CancelledEarly, RunSession
from napari_xt.words import summary
from xt_backend.engine.events import RegionsScored, RunFailed, RunFinished, RunPlanned
from xt_backend.engine.spec import RunSpec
from xt_backend.errors import DeviceError, EngineError


class Scripted:
    """Yields what it is told to, and hangs where the script says so."""

    def __init__(self, *script: Any, heeds_cancel: bool = True) -> None:
        self.script = script
        self.heeds_cancel = heeds_cancel
        self.cancelled = threading.Event()
        self.closed = threading.Event()
        self.told = threading.Event()
        self.threads: list[str] = []

    def submit(self, spec: RunSpec) -> Iterator[Any]:
        self.threads.append(threading.current_thread().name)
        for item in self.script:
            if item == "hang":
                self.told.set()
                stop = self.cancelled if self.heeds_cancel else self.closed
                while not stop.wait(0.01) and not self.closed.is_set():
                    pass
                if self.closed.is_set():
                    return
                yield RunFinished(spec.run_id, "cancelled map", cancelled=True)
                return
            if isinstance(item, Exception):
                raise item
            yield item(spec.run_id)
        self.told.set()

    def cancel(self, run_id: str) -> None:
        self.cancelled.set()

    def close(self) -> None:
        self.closed.set()


def planned(run_id: str) -> RunPlanned:
    return RunPlanned(run_id, "blank map", 4, 0, "cpu", "asked for", "fp32")


def scored(run_id: str) -> RegionsScored:
    return RegionsScored(run_id, 2, 4, 1.0, 2.0, "half map")


def finished(run_id: str) -> RunFinished:
    return RunFinished(run_id, "whole map")


class Heard:
    def __init__(self, session: RunSession) -> None:
        self.told: list[tuple[str, Any]] = []
        for name in ("planned", "progressed", "finished", "failed"):
            getattr(session, name).connect(self._hear(name))

    def _hear(self, name: str) -> Any:
        def hear(event: Any) -> None:
            assert threading.current_thread() is threading.main_thread()
            self.told.append((name, event))

        return hear

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.told]


@pytest.fixture
def spec() -> RunSpec:
    return RunSpec(slide=Path("a.svs"), model="m")


def start(backend: Scripted, spec: RunSpec) -> tuple[RunSession, Heard]:
    session = RunSession(lambda: backend)  # type: ignore[arg-type, return-value]
    heard = Heard(session)
    session.start(spec)
    return session, heard


def test_events_come_in_order_in_the_main_thread(qtbot: Any, spec: RunSpec) -> None:
    backend = Scripted(planned, scored, finished)
    session, heard = start(backend, spec)
    qtbot.waitUntil(lambda: not session.running, timeout=20_000)
    assert [name for name in heard.names if name != "progressed"] == ["planned", "finished"]
    assert backend.threads == ["xt-run"]


def test_of_many_partial_maps_only_the_newest_is_drawn(qtbot: Any, spec: RunSpec) -> None:
    backend = Scripted(planned, *[scored] * 500, "hang")
    session, heard = start(backend, spec)
    assert backend.told.wait(60)  # they pile up while the window is busy
    qtbot.waitUntil(lambda: "progressed" in heard.names, timeout=20_000)
    assert heard.names.count("progressed") < 50
    session.cancel()
    qtbot.waitUntil(lambda: not session.running, timeout=20_000)
    assert heard.told[-1][1].score_map == "cancelled map"


def test_the_first_partial_map_is_drawn_even_if_the_run_is_over_by_then(
    qtbot: Any, spec: RunSpec
) -> None:
    first = lambda run_id: RegionsScored(run_id, 1, 4, 1.0, 2.0, "first map")  # noqa: E731
    backend = Scripted(planned, first, scored, scored, finished)
    session, heard = start(backend, spec)
    assert backend.told.wait(60)
    qtbot.waitUntil(lambda: not session.running, timeout=20_000)
    assert heard.names == ["planned", "progressed", "progressed", "finished"]
    assert heard.told[1][1].score_map == "first map"


def test_a_backend_that_hangs_does_not_keep_cancel_waiting(qtbot: Any, spec: RunSpec) -> None:
    stuck = Scripted(planned, scored, "hang", heeds_cancel=False)
    session, heard = start(stuck, spec)
    qtbot.waitUntil(lambda: "progressed" in heard.names, timeout=20_000)
    session.cancel()
    assert session.cancelling
    qtbot.waitUntil(lambda: not session.running, timeout=20_000)
    assert heard.names[-1] == "finished"
    assert heard.told[-1][1].cancelled
    assert heard.told[-1][1].score_map == "half map"
    assert not stuck.closed.is_set()
    # The next run does not queue behind the stuck one.
    fresh = Scripted(planned, finished)
    session._make_backend = lambda: fresh  # type: ignore[assignment, return-value]
    session.start(spec)
    qtbot.waitUntil(lambda: not session.running, timeout=20_000)
    assert heard.told[-1][1].score_map == "whole map"
    assert stuck.closed.wait(20)


def test_cancel_reaches_a_run_that_is_just_being_handed_over(qtbot: Any, spec: RunSpec) -> None:
    session, heard = start(Scripted("hang"), spec)
    session.cancel()
    qtbot.waitUntil(lambda: not session.running, timeout=20_000)
    assert heard.names == ["finished"]


def test_a_run_that_is_left_before_its_plan_ends_without_a_map(qtbot: Any, spec: RunSpec) -> None:
    session, heard = start(Scripted("hang", heeds_cancel=False), spec)
    session.cancel()
    qtbot.waitUntil(lambda: not session.running, timeout=20_000)
    assert heard.told == [("finished", CancelledEarly(spec.run_id))]
    assert summary(heard.told[0][1]) == "Cancelled before the first region was scored."
    session.close()


def test_failures_are_told_once_and_the_session_goes_on(qtbot: Any, spec: RunSpec) -> None:
    error = DeviceError("no such device", "use another")
    for script in ([lambda run_id: RunFailed(run_id, error)], [planned, error]):
        session, heard = start(Scripted(*script), spec)
        qtbot.waitUntil(lambda session=session: not session.running, timeout=20_000)
        assert heard.names.count("failed") == 1
        assert heard.told[-1][1] is error
    session, heard = start(Scripted(ValueError("a bug")), spec)
    qtbot.waitUntil(lambda: not session.running, timeout=20_000)
    assert isinstance(heard.told[-1][1], EngineError)
    assert "a bug" in str(heard.told[-1][1])


def test_a_failure_after_cancel_counts_as_cancelled(qtbot: Any, spec: RunSpec) -> None:
    died = DeviceError("gone", "")

    class Dies(Scripted):
        def submit(self, spec: RunSpec) -> Iterator[Any]:
            yield planned(spec.run_id)
            self.cancelled.wait(20)
            yield RunFailed(spec.run_id, died)

    session, heard = start(Dies(), spec)
    qtbot.waitUntil(lambda: heard.names == ["planned"], timeout=20_000)
    session.cancel()
    qtbot.waitUntil(lambda: not session.running, timeout=20_000)
    assert heard.names == ["planned", "finished"]
    assert heard.told[-1][1].score_map == "blank map"


def test_one_run_at_a_time(qtbot: Any, spec: RunSpec) -> None:
    session, _ = start(Scripted(planned, "hang"), spec)
    with pytest.raises(EngineError):
        session.start(spec)
    session.close()


def test_close_is_quiet_and_a_later_start_opens_a_new_backend(qtbot: Any, spec: RunSpec) -> None:
    first = Scripted(planned, "hang")
    session, heard = start(first, spec)
    qtbot.waitUntil(lambda: heard.names == ["planned"], timeout=20_000)
    session.close()
    assert first.closed.is_set()
    assert not session.running
    qtbot.wait(200)
    assert heard.names == ["planned"]
    session._make_backend = lambda: Scripted(planned, finished)  # type: ignore[assignment, return-value]
    session.start(spec)
    qtbot.waitUntil(lambda: not session.running, timeout=20_000)
    assert heard.names == ["planned", "planned", "finished"]
