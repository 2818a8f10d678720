"""Progress where stderr is a file: few plain lines."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from support.slides import tissue_image, write_tiff_slide

from xt_backend.cli import progress, progress_lines
from xt_backend.cli.console import progress_bar
from xt_backend.cli.progress_lines import ProgressLines
from xt_backend.training.events import Progress

Call = Callable[..., Any]


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_line_is_due_after_some_time_and_some_work() -> None:
    lines: list[str] = []
    clock = Clock()
    bar = ProgressLines(lines.append, clock)
    task = bar.add_task("a.tiff", total=None)
    bar.update(task, total=2000)
    for done in range(0, 2001, 10):
        clock.now = done / 20
        bar.update(task, completed=done)
    assert len(lines) == 10
    assert lines[0] == "a.tiff: 200 of 2,000 (10%), 20/s, 90 s left".replace("90 s", "2 min")
    assert lines[8] == "a.tiff: 1,800 of 2,000 (90%), 20/s, 10 s left"
    assert lines[9] == "a.tiff: 2,000 of 2,000 (100%)"
    slow = bar.add_task("b.tiff", total=100_000)
    for second in range(1, 121):
        clock.now = 100.0 + second
        bar.update(slow, completed=second, rate=1.0, description="b.tiff context")
    assert lines[10:] == [
        "b.tiff context: 60 of 100,000 (0%), 1/s, 27 hours 46 min left",
        "b.tiff context: 120 of 100,000 (0%), 1/s, 27 hours 45 min left",
    ]


def test_what_was_done_before_does_not_count_as_speed() -> None:
    """The first that is heard of a training is the end of an epoch, not always of the first."""
    lines: list[str] = []
    clock = Clock()
    bar = ProgressLines(lines.append, clock)
    task = bar.add_task("train", total=36)
    bar.update(task, completed=16)
    clock.now = 20.0
    bar.update(task, completed=20)
    assert lines == ["train: 20 of 36 (56%), 0.2/s, 80 s left"]


def test_every_fold_has_a_clock_of_its_own(monkeypatch: Any, capsys: Any) -> None:
    clock = Clock()
    lines: list[str] = []
    bars = ProgressLines(lines.append, clock)
    monkeypatch.setattr(progress, "progress_bar", lambda: nullcontext(bars))
    with progress.stage_bars() as show:
        for fold in range(3):
            show(Progress("encode", 1, 1, "b.tiff"))
            for epoch in range(1, 5):
                clock.now = 1000.0 * fold + 20 * epoch
                show(Progress("train", epoch, 4, f"fold {fold}"))
    assert [line for line in lines if "of 4" in line and "100%" not in line] == [
        f"train fold {fold}: {epoch} of 4 ({epoch / 4:.0%}), 0.05/s, {20 * (4 - epoch)} s left"
        for fold in range(3)
        for epoch in (2, 3)
    ]


def test_what_is_over_at_once_leaves_no_line() -> None:
    lines: list[str] = []
    bar = ProgressLines(lines.append)
    task = bar.add_task("slides", total=2)
    bar.advance(task)
    bar.advance(task)
    bar.remove_task(task)
    bar.update(task, completed=5)
    assert lines == []


def test_a_log_file_holds_no_frames_of_a_bar(
    call: Call, tiny_model: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(progress_lines, "LEAST_S", 0.0)
    monkeypatch.setenv("FORCE_COLOR", "1")  # as continuous integration often has it
    for name in ("a", "b"):
        image = tissue_image(1024, 1024, ((0, 0, 1024, 1024),), seed=ord(name))
        write_tiff_slide(tmp_path / f"{name}.tiff", image)
    done = call("score", tmp_path, "--model", tiny_model, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert any(line.startswith("a.tiff") and " of 64 (" in line for line in lines)
    assert "slides: 1 of 2 (50%)" in done.stderr
    assert all(line.strip() for line in lines)
    for mark in ("\r", "\x1b[2K", "\u2501", "-:--:--"):
        assert mark not in done.stderr


def test_the_terminal_decides(monkeypatch: Any) -> None:
    with progress_bar() as bar:
        assert isinstance(bar, ProgressLines)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    with progress_bar() as bar:
        assert isinstance(bar, ProgressLines)
