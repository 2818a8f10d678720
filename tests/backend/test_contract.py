"""What both workers promise of `submit`, `cancel` and `close`."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.slides import tissue_image, write_tiff_slide

from xt_backend import Backend, RunFailed, RunFinished, RunPlanned, RunSpec
from xt_backend.backend import process as process_module
from xt_backend.backend.run_events import RunEvents
from xt_backend.errors import BackendDiedError

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def large_slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All tissue, 256 regions of the tiny model."""
    image = tissue_image(2048, 2048, ((0, 0, 2048, 2048),))
    return write_tiff_slide(tmp_path_factory.mktemp("large") / "large.tiff", image)


@pytest.fixture(params=[False, True], ids=["in-process", "process"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    with Backend(process=request.param) as made:
        yield made


@pytest.fixture
def asked(large_slide: Path, tiny_model: Path, tmp_path: Path) -> RunSpec:
    return RunSpec(slide=large_slide, model=str(tiny_model), cache=tmp_path)


def known_runs(backend: Backend) -> Any:
    worker: Any = backend._worker
    return worker._runs if hasattr(worker, "_runs") else worker._asked._asked


def test_a_cancel_before_the_first_event_counts(backend: Backend, asked: RunSpec) -> None:
    events = backend.submit(asked)
    backend.cancel(asked.run_id)
    *_, last = events
    assert isinstance(last, RunFinished)
    assert last.cancelled
    assert last.encoded_regions < 256


def test_leaving_the_events_stops_the_run(backend: Backend, asked: RunSpec) -> None:
    for event in backend.submit(asked):
        assert isinstance(event, RunPlanned)
        break
    assert not known_runs(backend)
    *_, last = backend.submit(asked)
    assert isinstance(last, RunFinished)
    assert last.encoded_regions > 0  # it had not gone on to the end
    assert not known_runs(backend)


def test_events_that_nobody_takes_stop_the_run(backend: Backend, asked: RunSpec) -> None:
    backend.submit(asked)
    assert not known_runs(backend)
    *_, last = backend.submit(asked)
    assert isinstance(last, RunFinished)
    assert last.encoded_regions > 0


def test_another_thread_may_leave_the_events(backend: Backend, asked: RunSpec) -> None:
    """Whoever waits for the next event is not left waiting, and the run stops."""
    events: Any = backend.submit(asked)
    assert isinstance(next(events), RunPlanned)
    more: list[Any] = []
    waiting = threading.Thread(target=lambda: more.extend(events))
    waiting.start()
    events.close()
    waiting.join(60)
    assert not waiting.is_alive()
    assert not known_runs(backend)
    *_, last = backend.submit(asked)
    assert isinstance(last, RunFinished)
    assert last.encoded_regions > 0


def test_closing_events_that_are_being_waited_for_stops_the_run() -> None:
    waited_for, go_on, left = threading.Event(), threading.Event(), threading.Event()

    def events() -> Generator[Any, None, None]:
        waited_for.set()
        go_on.wait(60)
        yield "an event that nobody wants any more"
        pytest.fail("the run went on")

    run = RunEvents(events(), left.set)
    taken: list[Any] = []
    waiting = threading.Thread(target=lambda: taken.extend(run))
    waiting.start()
    assert waited_for.wait(60)
    run.close()
    assert left.is_set()
    go_on.set()
    waiting.join(60)
    assert not waiting.is_alive()
    assert taken == []


def test_a_closed_backend_refuses(backend: Backend, asked: RunSpec) -> None:
    backend.close()
    backend.close()
    (failed,) = backend.submit(asked)
    assert isinstance(failed, RunFailed)
    assert isinstance(failed.error, BackendDiedError)
    assert "closed" in failed.error.cause
    with pytest.raises(BackendDiedError, match="closed"):
        backend.device()
    backend.cancel(asked.run_id)


@pytest.mark.parametrize("what", ["cancel", "close"])
def test_neither_cancel_nor_close_waits_for_a_child_that_starts(
    asked: RunSpec, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    accept, starting, go_on = process_module.accept, threading.Event(), threading.Event()

    def slow(listener: Any, child: Any) -> Any:
        starting.set()
        go_on.wait(60)
        return accept(listener, child)

    monkeypatch.setattr(process_module, "accept", slow)
    told: list[Any] = []
    with Backend(process=True) as backend:
        run = threading.Thread(target=lambda: told.extend(backend.submit(asked)))
        run.start()
        assert starting.wait(60)
        ask = backend.close if what == "close" else lambda: backend.cancel(asked.run_id)
        asking = threading.Thread(target=ask)
        asking.start()
        asking.join(30)
        waits = asking.is_alive()
        go_on.set()
        run.join(60)
        asking.join(60)
    assert not waits
    if what == "cancel":
        assert isinstance(told[-1], RunFinished)
        assert told[-1].cancelled
    else:
        (failed,) = told
        assert isinstance(failed, RunFailed)
        assert "closed" in failed.error.cause
