"""A backend process that cannot work: told, never waited for."""

from __future__ import annotations

import os
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from xt_backend import Backend, RunFailed, RunFinished, RunSpec
from xt_backend.backend.child import _Child
from xt_backend.backend.messages import Cancel, Happened, Submit
from xt_backend.errors import BackendDiedError, EngineError


def spec(slide: Path, model: Path, **options: Any) -> RunSpec:
    return RunSpec(slide=slide, model=str(model), **options)


def test_a_torch_that_cannot_be_loaded_is_an_event(
    tissue_slide: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('libtorch is broken')")
    before = os.environ.get("PYTHONPATH")
    paths = [str(tmp_path), *([before] if before else [])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    with Backend(process=True) as backend:
        for _ in range(2):
            (failed,) = backend.submit(spec(tissue_slide, tiny_model))
            assert isinstance(failed, RunFailed)
            assert isinstance(failed.error, EngineError)
            assert "libtorch is broken" in failed.error.cause
            assert "doctor" in failed.error.way_out
        with pytest.raises(EngineError, match="libtorch is broken"):
            backend.device("auto", "auto")


def test_an_answer_that_cannot_be_read_ends_the_run_and_the_next_one_works(
    tissue_slide: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = Connection.recv
    told = threading.Event()

    def broken(self: Connection) -> Any:
        message = receive(self)
        if threading.current_thread().name == "xt-backend-events" and not told.is_set():
            told.set()
            raise AttributeError("no such class")
        return message

    monkeypatch.setattr(Connection, "recv", broken)
    with Backend(process=True) as backend:
        *_, last = backend.submit(spec(tissue_slide, tiny_model))
        assert isinstance(last, RunFailed)
        assert isinstance(last.error, BackendDiedError)
        assert "no such class" in last.error.cause
        *_, last = backend.submit(spec(tissue_slide, tiny_model))
        assert isinstance(last, RunFinished)


class Pipe:
    """The child's end of a connection, with what was sent through it."""

    def __init__(self, *messages: Any, refuse: int = 0) -> None:
        self.inbox = list(messages)
        self.sent: list[Any] = []
        self.refuse = refuse

    def recv(self) -> Any:
        if not self.inbox:
            raise EOFError
        return self.inbox.pop(0)

    def send(self, message: Any) -> None:
        if self.refuse:
            self.refuse -= 1
            raise TypeError("cannot pickle this event")
        self.sent.append(message)


def test_an_event_that_cannot_be_sent_fails_its_run(tissue_slide: Path, tiny_model: Path) -> None:
    asked = spec(tissue_slide, tiny_model)
    pipe = Pipe(refuse=1)
    child = _Child(pipe)  # type: ignore[arg-type]
    child._waiting.put(asked)
    threading.Thread(target=child._work, daemon=True).start()
    while not pipe.sent:
        time.sleep(0.01)
    (message,) = pipe.sent
    assert isinstance(message.event, RunFailed)
    assert message.event.run_id == asked.run_id
    assert "cannot pickle" in message.event.error.cause


def test_a_child_that_cannot_tell_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    monkeypatch.setattr("xt_backend.backend.child.os._exit", codes.append)
    child = _Child(Pipe(refuse=9))  # type: ignore[arg-type]
    child._tell(Happened(RunFailed("a", EngineError("first"))))
    assert codes == [1]


def test_a_late_cancel_stops_no_later_run(tissue_slide: Path, tiny_model: Path) -> None:
    asked = spec(tissue_slide, tiny_model, run_id="again")
    with Backend() as backend:
        backend.cancel("again")
        backend.cancel("never heard of")
        for _ in range(2):
            *_, last = backend.submit(asked)
            assert isinstance(last, RunFinished)
            assert not last.cancelled
            backend.cancel("again")
        assert not backend._worker._asked._asked  # type: ignore[attr-defined]


def test_the_child_forgets_cancels_of_runs_that_it_does_not_have(
    tissue_slide: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Child, "_work", lambda self: None)
    asked = spec(tissue_slide, tiny_model)
    child = _Child(Pipe(Cancel("late"), Submit(asked), Cancel(asked.run_id)))  # type: ignore[arg-type]
    child.serve()
    assert child._asked._asked == {asked.run_id: True}
    child._asked.end(asked.run_id)
    child._asked.cancel(asked.run_id)
    assert not child._asked.cancelled(asked.run_id)
    assert not child._asked._asked
