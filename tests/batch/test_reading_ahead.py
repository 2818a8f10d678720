"""The next slide is prepared while the one in hand comes to its end: one, and no more."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.slides import write_tissue_slide

import xt_backend
from xt_backend.batch import Batch
from xt_backend.batch.engines.messages import Message, NearEnd
from xt_backend.batch.engines.working import Upcoming, work_off
from xt_backend.config import ScoreOptions
from xt_backend.engine import ahead, prepare
from xt_backend.engine.ahead import Ahead, Wish
from xt_backend.engine.events import RegionsScored
from xt_backend.slides.slide import Slide


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four of them, the largest first; the third has no pixel size."""
    folder = tmp_path_factory.mktemp("slides")
    for number, name in enumerate("abcd"):
        mpp = None if name == "c" else 0.5
        write_tissue_slide(folder / f"{name}.tiff", side=896 - 128 * number, mpp=mpp)
    return folder


@pytest.fixture(autouse=True)
def in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next slide is ready before the one in hand is done, however busy the machine."""
    begin = Ahead.begin

    def wait(ahead: Ahead, wish: Wish) -> None:
        begin(ahead, wish)
        assert ahead._waiting is not None
        concurrent.futures.wait([ahead._waiting[1]])

    monkeypatch.setattr(Ahead, "begin", wait)


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Slides that were prepared, and by which thread."""
    told = []

    def spy(path: Path, *more: Any) -> Any:
        told.append((path.stem, threading.current_thread().name.split("_")[0]))
        return prepare(path, *more)

    monkeypatch.setattr(ahead, "prepare", spy)
    return told


@pytest.fixture
def most_open(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The most prepared slides that were open at once; in the end none is."""
    opened: set[int] = set()
    most = [0]
    thumbnail, close = Slide.thumbnail, Slide.close

    def draw(slide: Slide, *more: Any) -> Any:
        opened.add(id(slide))
        most[0] = max(most[0], len(opened))
        return thumbnail(slide, *more)

    def spy(slide: Slide) -> None:
        opened.discard(id(slide))
        close(slide)

    monkeypatch.setattr(Slide, "thumbnail", draw)
    monkeypatch.setattr(Slide, "close", spy)
    yield most
    assert not opened


def batch(slides: Path, model: Path, out: Path | None) -> Batch:
    return Batch([slides], str(model), out, ScoreOptions(use_cache=False))


def test_each_slide_is_prepared_once_and_beside_the_one_before(
    slides: Path,
    tiny_model: Path,
    tmp_path: Path,
    prepared: list[tuple[str, str]],
    most_open: list[int],
) -> None:
    run = batch(slides, tiny_model, tmp_path / "run").run()
    assert [row.status for row in run.rows] == ["done", "done", "failed", "done"]
    assert "pixel size" in run.rows[2].reason
    # Nothing comes to its end on a slide that failed, so the one behind it is not begun before.
    # What failed then is tried again when its turn comes.
    assert [name for name, _ in prepared] == ["a", "b", "c", "c", "d"]
    assert [thread == "xt-ahead" for _, thread in prepared] == [False, True, True, False, False]
    assert most_open == [2]
    xt_backend.score(slides / "b.tiff", str(tiny_model), tmp_path / "alone", use_cache=False)
    for name in ("b.regions.csv", "b.geojson", "b.overlay.png"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


def test_features_are_read_ahead_too(
    slides: Path, tmp_path: Path, prepared: list[tuple[str, str]], most_open: list[int]
) -> None:
    both = [slides / "a.tiff", slides / "b.tiff"]
    options: dict[str, Any] = {"weights": "random", "region_px": 64, "use_cache": False}
    run = xt_backend.features(both, "tf_efficientnet_lite0", tmp_path, **options)
    assert [row.status for row in run.rows] == ["done", "done"]
    assert [thread == "xt-ahead" for _, thread in prepared] == [False, True]
    assert most_open == [2]


def test_workers_elsewhere_prepare_what_they_are_told_to_be_next(
    slides: Path,
    tiny_model: Path,
    tmp_path: Path,
    prepared: list[tuple[str, str]],
    most_open: list[int],
) -> None:
    planned = batch(slides, tiny_model, tmp_path)
    planned.publish_plan()
    a, b, _, d = planned.todo
    upcoming = Upcoming()
    upcoming.tell(d)  # of the task before: too late
    next_of, told = {"a": b, "b": b}, []

    def tell(message: Message) -> None:
        told.append(type(message).__name__)
        if isinstance(message, NearEnd):
            upcoming.tell(next_of[task.slide_id])

    with planned.job.worker() as worker:
        for task in (a, b):
            work_off(worker, task, tell, lambda: False, upcoming)
    assert told.count("NearEnd") == told.count("Done") == 2
    assert prepared == [("a", "MainThread"), ("b", "xt-ahead")]
    assert most_open == [2]


def test_what_is_finished_is_not_prepared(
    slides: Path, tiny_model: Path, tmp_path: Path, prepared: list[tuple[str, str]]
) -> None:
    batch(slides, tiny_model, tmp_path / "run").run()
    prepared.clear()
    (tmp_path / "run" / "a.run.h5").unlink()
    run = batch(slides, tiny_model, tmp_path / "run").run()
    assert [row.status for row in run.rows] == ["done", "done", "failed", "done"]
    assert [name for name, _ in prepared] == ["a", "c", "c"]


def test_an_interruption_lets_go_of_the_next_slide(
    slides: Path, tiny_model: Path, prepared: list[tuple[str, str]], most_open: list[int]
) -> None:
    ended = threading.Event()

    def on_event(task: Any, event: Any) -> None:
        if isinstance(event, RegionsScored) and event.stage == "context":
            ended.set()

    run = batch(slides, tiny_model, None).run(on_event, cancelled=ended.is_set)
    assert run.interrupted
    assert [name for name, _ in prepared] == ["a", "b"]
    assert most_open == [2]


def test_an_error_that_ends_the_batch_does_so_too(
    slides: Path, tiny_model: Path, most_open: list[int]
) -> None:
    def on_event(task: Any, event: Any) -> None:
        if isinstance(event, RegionsScored) and event.stage == "context":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        batch(slides, tiny_model, None).run(on_event)
    assert most_open[0] <= 2
