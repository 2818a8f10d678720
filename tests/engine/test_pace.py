"""How quick a run would be is tried on its own regions, with the model that the run will use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xt_backend import Backend, RunSpec
from xt_backend.engine import PaceJob, choose_device, measure_pace, usual_way
from xt_backend.engine.encoders import EncoderChoice
from xt_backend.engine.encoders.choice import Trial, choice_key, keep_choice
from xt_backend.engine.events import JobFinished, RunFailed, RunFinished
from xt_backend.engine.loaded import Loaded
from xt_backend.errors import SlideError
from xt_backend.model import read_card


@pytest.fixture
def spec(tissue_slide: Path, tiny_model: Path) -> RunSpec:
    return RunSpec(slide=tissue_slide, model=str(tiny_model), device="cpu")


def test_the_trial_loads_the_model_that_the_run_then_finds(
    spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    import xt_backend.engine.loaded as loaded_module

    loads: list[Path] = []
    load = loaded_module.load_model

    def counted(path: Path, **options: Any) -> Any:
        loads.append(path)
        return load(path, **options)

    monkeypatch.setattr(loaded_module, "load_model", counted)
    with Backend() as backend:
        (tried,) = backend.work(PaceJob(spec))
        assert isinstance(tried, JobFinished)
        assert tried.result > 0
        *_, last = backend.submit(spec)
        assert isinstance(last, RunFinished)
        assert last.cache == "miss"  # nothing was stored by the trial
    assert len(loads) == 1


def test_in_the_process_of_the_window(spec: RunSpec) -> None:
    with Backend(process=True) as backend:
        (tried,) = backend.work(PaceJob(spec))
        assert isinstance(tried, JobFinished)
        assert tried.result > 0


def test_what_was_measured_before_is_taken_and_no_model_loaded(
    spec: RunSpec, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xt_backend.engine.encoders.choose._has_openvino", lambda: True)
    device = choose_device("cpu", "auto")
    trial = Trial(usual_way(device), regions_per_s=0.25)
    choice = EncoderChoice(trial.way, "measured", (trial,), 96)
    what = {"model": read_card(tiny_model).state_sha256}
    keep_choice(choice_key(what, device, spec.encoder_backend, spec.precision), choice)

    def no_model(*arguments: Any) -> None:
        raise AssertionError("a model is loaded")

    monkeypatch.setattr(Loaded, "model", no_model)
    assert measure_pace(Loaded(), spec) == 0.25


def test_reading_counts_where_it_is_the_slower_of_the_two(
    spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    import xt_backend.engine.encoding as encoding

    def slowly(*arguments: Any) -> Any:
        clock[0] += 100.0
        return read(*arguments)

    clock, read = [0.0], encoding.sample_regions
    monkeypatch.setattr(encoding, "sample_regions", slowly)
    monkeypatch.setattr("xt_backend.engine.pace.time.perf_counter", lambda: clock[0] + next(ticks))
    ticks: Iterator[float] = (0.001 * tick for tick in range(1_000_000))
    rate = measure_pace(Loaded(), spec)
    assert rate is not None
    assert 0.1 < rate < 0.2  # 16 regions in 100 s


def test_a_trial_can_be_stopped_and_its_failure_is_told(spec: RunSpec, tmp_path: Path) -> None:
    asked = []

    def cancelled() -> bool:
        asked.append(1)
        return len(asked) > 1

    assert measure_pace(Loaded(), spec, cancelled) is None
    gone = spec.model_copy(update={"slide": tmp_path / "gone.tiff"})
    with Backend() as backend:
        (failed,) = backend.work(PaceJob(gone))
    assert isinstance(failed, RunFailed)
    assert isinstance(failed.error, SlideError | FileNotFoundError)
