"""Work beside the window: heard in order in the main thread, the newest alone, errors last."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from qtpy.QtCore import QObject

from napari_xt.beside import Beside, Tell
from napari_xt.latest_job import LatestJob
from xt_backend.errors import EngineError, XTError

PATIENCE_MS = 20_000


class Listener(QObject):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Any] = []
        self.threads: set[int] = set()
        self.beside = Beside(self._take, self, "xt-test")

    def _take(self) -> None:
        for told in self.beside.told():
            self.heard.append(told)
            self.threads.add(threading.get_ident())


@pytest.fixture
def listener(qapp: Any) -> Any:
    made = Listener()
    yield made
    made.beside.leave()


def test_what_is_told_comes_in_order_in_the_main_thread(qtbot: Any, listener: Listener) -> None:
    working: list[int] = []

    def work(tell: Tell) -> None:
        working.append(threading.get_ident())
        for number in range(100):
            tell(number)

    listener.beside.start(work)
    qtbot.waitUntil(lambda: len(listener.heard) == 100, timeout=PATIENCE_MS)
    assert listener.heard == list(range(100))
    assert listener.threads == {threading.get_ident()} != set(working)


@pytest.mark.parametrize("error", [XTError("no", "go"), ValueError("oh")])
def test_an_error_is_told_last(qtbot: Any, listener: Listener, error: Exception) -> None:
    def work(tell: Tell) -> None:
        tell("half")
        raise error

    listener.beside.start(work)
    qtbot.waitUntil(lambda: len(listener.heard) == 2, timeout=PATIENCE_MS)
    half, told = listener.heard
    assert half == "half"
    assert isinstance(told, XTError)
    if isinstance(error, ValueError):
        assert isinstance(told, EngineError)
        assert "ValueError: oh" in str(told)


def test_only_the_newest_work_is_heard(qtbot: Any, listener: Listener) -> None:
    go = threading.Event()

    def slow(tell: Tell) -> None:
        go.wait(20)
        tell("old")

    listener.beside.start(slow)
    old = listener.beside.worker
    assert old is not None
    listener.beside.start(lambda tell: tell("new"))
    go.set()
    old.join(20)
    qtbot.waitUntil(lambda: bool(listener.heard), timeout=PATIENCE_MS)
    assert listener.heard == ["new"]
    listener.beside.start(lambda tell: tell("unheard"))
    listener.beside.leave()
    listener.beside.start(lambda tell: tell("heard"))
    qtbot.waitUntil(lambda: len(listener.heard) == 2, timeout=PATIENCE_MS)
    assert listener.heard == ["new", "heard"]


def test_of_jobs_that_pile_up_the_newest_is_done_and_told(qtbot: Any, listener: Listener) -> None:
    go, did, told = threading.Event(), [], []
    latest = LatestJob(told.append, listener)

    def job(name: str) -> str:
        did.append(name)
        if name == "a":
            go.wait(20)
        return name

    for name in "abcd":
        latest.ask(lambda name=name: job(name))
    go.set()
    qtbot.waitUntil(lambda: bool(told), timeout=PATIENCE_MS)
    assert (did, told) == (["a", "d"], ["d"])
    assert not latest.working
    latest.ask(lambda: job("e"))
    latest.forget()
    latest.ask(lambda: job("f"))
    qtbot.waitUntil(lambda: len(told) == 2, timeout=PATIENCE_MS)
    assert told == ["d", "f"]
