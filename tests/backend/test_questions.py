"""Questions through the backend: in a process of its own they wait for no run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.asked import make_asked
from support.slides import tissue_image, write_tiff_slide

from xt_backend import Backend, RunSpec
from xt_backend.engine.events import JobFinished, RunFailed, RunFinished
from xt_backend.engine.questions import Influence, Repredicted, Spread, WhatIf


@pytest.mark.parametrize("process", [False, True])
def test_a_question_is_work_like_any_other(process: bool, tmp_path: Path) -> None:
    about = make_asked(tmp_path)
    with Backend(process=process) as backend:
        question = WhatIf(about, np.array([5, 6]))
        (event,) = backend.work(question)
        assert isinstance(event, JobFinished)
        assert event.run_id == question.run_id
        assert isinstance(event.result, Repredicted)
        assert np.isnan(event.result.score_map.logits[[5, 6]]).all()
        (event,) = backend.work(Influence(about, 1, 0))  # it could not be read
        assert isinstance(event, RunFailed)
        assert "not scored" in str(event.error)
        cancelled = Spread(about)
        events = backend.work(cancelled)
        backend.cancel(cancelled.run_id)
        (event,) = events
        assert isinstance(event, JobFinished)
        if not process or event.cancelled:  # a process may be done before it hears of that
            assert event.result is None


def test_a_question_is_answered_while_a_run_goes_on(tmp_path: Path, tiny_model: Path) -> None:
    about = make_asked(tmp_path)
    image = tissue_image(6144, 6144, ((0, 0, 6144, 6144),))  # it goes on for long
    slide = write_tiff_slide(tmp_path / "large.tiff", image)
    spec = RunSpec(slide=slide, model=str(tiny_model), device="cpu", use_cache=False)
    with Backend(process=True) as backend:
        run = backend.submit(spec)
        next(run)
        (event,) = backend.work(WhatIf(about, np.array([5])))
        assert isinstance(event, JobFinished)
        backend.cancel(spec.run_id)
        *_, last = run
        assert isinstance(last, RunFinished)
        assert last.cancelled, "the run was over before the question was answered"
