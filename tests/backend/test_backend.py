"""Runs through the backend, in this process and in one of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from support.slides import tissue_image, write_tiff_slide

from xt_backend import Backend, RegionsScored, RunFailed, RunFinished, RunPlanned, RunSpec
from xt_backend.errors import BackendDiedError, DeviceError, ModelError, SlideOpenError
from xt_backend.keys import RegionStatus


@pytest.fixture(scope="module")
def large_slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All tissue, 256 regions of the tiny model."""
    image = tissue_image(2048, 2048, ((0, 0, 2048, 2048),))
    return write_tiff_slide(tmp_path_factory.mktemp("large") / "large.tiff", image)


def spec(slide: Path, model: Path, **options: object) -> RunSpec:
    return RunSpec(slide=slide, model=str(model), **options)


@pytest.mark.parametrize("process", [False, True])
def test_events_come_in_order_and_end_with_the_whole_map(
    process: bool, tissue_slide: Path, tiny_model: Path
) -> None:
    with Backend(process=process) as backend:
        events = list(backend.submit(spec(tissue_slide, tiny_model)))
    assert isinstance(events[0], RunPlanned)
    assert events[0].n_regions == 16
    assert events[0].device == "cpu"
    assert events[0].device_reason
    assert not events[0].score_map.scored.any()
    assert all(isinstance(event, RegionsScored) for event in events[1:-1])
    done = [event.done for event in events[1:-1]]
    assert done == sorted(done)
    last = events[-1]
    assert isinstance(last, RunFinished)
    assert last.score_map.scored.all()
    assert not last.score_map.partial
    assert last.encoded_regions == 16


@pytest.mark.parametrize("process", [False, True])
def test_the_device_can_be_asked_for_before_a_run(
    process: bool, tissue_slide: Path, tiny_model: Path
) -> None:
    with Backend(process=process) as backend:
        told = backend.device()
        planned = next(iter(backend.submit(spec(tissue_slide, tiny_model))))
        assert isinstance(planned, RunPlanned)
        assert (told.name, told.precision) == (planned.device, planned.precision)
        assert told.reason == planned.device_reason
        with pytest.raises(DeviceError, match="cuda:999"):
            backend.device("cuda:999")
        assert backend.device("cpu").reason == "asked for"


def test_a_dead_or_closed_process_does_not_keep_the_question_waiting() -> None:
    backend = Backend(process=True)
    backend.device()
    pid = backend._worker.pid  # type: ignore[attr-defined]
    os.kill(pid, signal.SIGKILL)
    for _ in range(100):
        with contextlib.suppress(BackendDiedError):
            assert backend.device("cpu").name == "cpu"  # a new process answers
            break
    assert backend._worker.pid not in (None, pid)  # type: ignore[attr-defined]
    backend.close()
    with pytest.raises(BackendDiedError):
        backend.device()


def test_a_process_gives_the_same_bytes(tissue_slide: Path, tiny_model: Path) -> None:
    maps = []
    for process in (False, True):
        with Backend(process=process) as backend:
            *_, last = backend.submit(spec(tissue_slide, tiny_model, use_cache=False))
        assert isinstance(last, RunFinished)
        maps.append(last.score_map)
    assert maps[0].logits.tobytes() == maps[1].logits.tobytes()


@pytest.mark.parametrize("process", [False, True])
def test_errors_arrive_as_an_event_and_the_next_run_works(
    process: bool, tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.svs"
    broken.write_bytes(b"")
    with Backend(process=process) as backend:
        (failed,) = backend.submit(spec(broken, tiny_model))
        assert isinstance(failed, RunFailed)
        assert isinstance(failed.error, SlideOpenError)
        assert failed.error.way_out
        (failed,) = backend.submit(RunSpec(slide=tissue_slide, model="no-such-model"))
        assert isinstance(failed, RunFailed)
        assert isinstance(failed.error, ModelError)
        *_, last = backend.submit(spec(tissue_slide, tiny_model))
        assert isinstance(last, RunFinished)


@pytest.mark.parametrize("process", [False, True])
def test_cancel_keeps_exactly_what_was_encoded(
    process: bool, large_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    asked = spec(large_slide, tiny_model, cache=tmp_path)
    last_partial = None
    with Backend(process=process) as backend:
        for event in backend.submit(asked):
            if isinstance(event, RegionsScored):
                last_partial = event
                backend.cancel(asked.run_id)
        assert isinstance(event, RunFinished)
        assert event.cancelled
        found = event.score_map
        assert found.partial
        n_scored = int(found.scored.sum())
        assert 0 < n_scored < 256
        assert last_partial is not None
        assert n_scored >= last_partial.done
        assert (found.status[~found.scored] == RegionStatus.SKIPPED).all()
        assert np.isfinite(found.logits[found.scored]).all()
        assert np.isnan(found.logits[~found.scored]).all()
        *_, last = backend.submit(spec(large_slide, tiny_model, cache=tmp_path))
    assert isinstance(last, RunFinished)
    assert last.encoded_regions == 256 - n_scored
    assert last.cache == "partial"


NOTICED_S = 30.0
"""How soon the end of a process is promised to be noticed; the machine may be busy."""


@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_process_is_an_event_and_is_replaced(large_slide: Path, tiny_model: Path) -> None:
    killed_at: float | None = None
    with Backend(process=True) as backend:
        for event in backend.submit(spec(large_slide, tiny_model)):
            if isinstance(event, RegionsScored) and killed_at is None:
                os.kill(backend._worker.pid, signal.SIGKILL)
                killed_at = time.monotonic()
        assert isinstance(event, RunFailed)
        assert isinstance(event.error, BackendDiedError)
        assert killed_at is not None
        assert time.monotonic() - killed_at < 10 * NOTICED_S
        *_, last = backend.submit(spec(large_slide, tiny_model))
        assert isinstance(last, RunFinished)


def test_closing_mid_run_ends_the_process(large_slide: Path, tiny_model: Path) -> None:
    backend = Backend(process=True)
    events = backend.submit(spec(large_slide, tiny_model))
    assert isinstance(next(events), RunPlanned)
    child = backend._worker._child
    backend.close()
    assert child.poll() is not None


def test_a_process_works_from_an_unguarded_script_and_dies_with_it(
    large_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import os
            from xt_backend import Backend, RegionsScored, RunSpec
            backend = Backend(process=True)
            for event in backend.submit(RunSpec(slide={str(large_slide)!r},
                                                model={str(tiny_model)!r})):
                if isinstance(event, RegionsScored):
                    print(backend._worker.pid, flush=True)
                    os._exit(7)
            """
        )
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 7, done.stderr
    pid = int(done.stdout)
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(timeout=60)
    assert not psutil.pid_exists(pid)
