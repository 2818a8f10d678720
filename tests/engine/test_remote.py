"""Regions that are encoded on another machine come out as if they were encoded here."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from support.engines import below
from support.ray_cluster import RayCluster, ray_cluster
from support.slides import tissue_image, write_tiff_slide

from xt_backend import Backend, RegionsScored, RunFailed, RunFinished, RunPlanned, RunSpec
from xt_backend.engine import Elsewhere
from xt_backend.engine.remote.link import Answer, Link
from xt_backend.errors import DeviceError, EngineError, UsageError, XTError

pytest.importorskip("ray", reason="needs the extra ray")
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with ray_cluster() as one:
        yield one


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """As in the cluster: on some processors bytes depend on how many there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def there(cluster: RayCluster, monkeypatch: pytest.MonkeyPatch) -> Elsewhere:
    monkeypatch.setenv("RAY_AUTH_TOKEN", cluster.token)
    return Elsewhere(address=cluster.address)


@pytest.fixture(scope="module")
def backend(cluster: RayCluster) -> Iterator[Backend]:
    """Keeps the way to its worker from run to run, as the window does."""
    with Backend() as one:
        yield one
        workers = cluster.named("ray::Member")
    assert len(workers) == 1
    assert psutil.wait_procs(workers, timeout=60)[1] == []
    assert below("xt_backend.engine.remote") == []


@pytest.fixture(scope="module")
def here(
    slide: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunFinished, Path]:
    """A run on this machine, and its cache."""
    cache = tmp_path_factory.mktemp("here")
    with Backend() as one:
        return ended(one, spec(slide, tiny_model, cache))[1], cache


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All tissue, 144 regions of the tiny model, some of them over the edge."""
    image = tissue_image(1480, 1480, ((0, 0, 1480, 1480),))
    return write_tiff_slide(tmp_path_factory.mktemp("large") / "large.tiff", image)


def spec(slide: Path, model: Path, cache: Path, **options: object) -> RunSpec:
    return RunSpec(slide=slide, model=str(model), cache=cache, **options)


def ended(backend: Backend, asked: RunSpec) -> tuple[RunPlanned, RunFinished]:
    events = list(backend.submit(asked))
    if isinstance(events[-1], RunFailed):
        raise events[-1].error
    assert isinstance(events[0], RunPlanned)
    assert isinstance(events[-1], RunFinished)
    return events[0], events[-1]


def assert_same(one: RunFinished, other: RunFinished) -> None:
    ours, theirs = one.score_map, other.score_map
    for name in ("cells", "status", "logits", "region_only_logits", "quality", "quality_measures"):
        assert getattr(ours, name).tobytes() == getattr(theirs, name).tobytes(), name
    assert ours.run_meta == theirs.run_meta


def test_sent_pixels_and_a_slide_read_there_give_the_bytes_of_a_run_here(
    backend: Backend,
    there: Elsewhere,
    here: tuple[RunFinished, Path],
    slide: Path,
    tiny_model: Path,
    tmp_path: Path,
) -> None:
    ours, cache = here
    (tmp_path / "seen").mkdir()
    shutil.copy(slide, tmp_path / "seen" / slide.name)
    folder = str(slide.parent)
    unseen = Elsewhere(address=there.address, paths=((folder, "/nowhere"),))
    seen = Elsewhere(address=there.address, paths=((folder, str(tmp_path / "seen")),))
    sent = ended(backend, spec(slide, tiny_model, tmp_path / "sent", elsewhere=unseen))
    read = ended(backend, spec(slide, tiny_model, tmp_path / "read", elsewhere=seen))
    for planned, finished in (sent, read):
        assert_same(ours, finished)
        assert finished.encoded_regions == ours.encoded_regions == 144
        assert f"in the Ray cluster at {there.address}" in planned.device_reason
        assert there.address not in str(finished.score_map.run_meta)
    assert "is sent pixels, as it does not see the slide" in sent[0].device_reason
    assert "which reads the slide itself" in read[0].device_reason
    # What came back is kept as if it had been made here, and what was made here is used there.
    _, again = ended(backend, spec(slide, tiny_model, tmp_path / "read"))
    _, back = ended(backend, spec(slide, tiny_model, cache, elsewhere=seen))
    for finished in (again, back):
        assert finished.cache == "hit"
        assert_same(ours, finished)


@pytest.mark.parametrize(("folder", "what", "most"), [("/nowhere", "encode", 2), ("", "look", 3)])
def test_no_more_is_under_way_than_a_few_batches(
    backend: Backend,
    there: Elsewhere,
    slide: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    folder: str,
    what: str,
    most: int,
) -> None:
    waiting: list[Answer] = []
    seen: list[int] = []
    ask, get = Link.ask, Answer.get

    def counted_ask(self: Link, name: str, *arguments: object) -> Answer:
        answer = ask(self, name, *arguments)
        if name == what:
            waiting.append(answer)
            seen.append(len(waiting))
        return answer

    def counted_get(self: Answer, *arguments: Any) -> Any:
        if self in waiting:
            waiting.remove(self)
        return get(self, *arguments)

    monkeypatch.setattr(Link, "ask", counted_ask)
    monkeypatch.setattr(Answer, "get", counted_get)
    pairs = ((str(slide.parent), folder),) if folder else ()
    elsewhere = Elsewhere(address=there.address, paths=pairs)
    ended(backend, spec(slide, tiny_model, tmp_path / "cache", elsewhere=elsewhere))
    assert len(seen) == 144 / 16
    assert max(seen) == most


def test_another_file_in_the_slides_place_is_not_read(
    backend: Backend,
    there: Elsewhere,
    here: tuple[RunFinished, Path],
    slide: Path,
    tissue_slide: Path,
    tiny_model: Path,
    tmp_path: Path,
) -> None:
    shutil.copy(tissue_slide, tmp_path / slide.name)
    wrong = Elsewhere(address=there.address, paths=((str(slide.parent), str(tmp_path)),))
    asked = spec(slide, tiny_model, tmp_path / "sent", elsewhere=wrong)
    planned, finished = ended(backend, asked)
    assert "is sent pixels, as it sees another file" in planned.device_reason
    assert_same(here[0], finished)


@pytest.mark.parametrize("folder", ["/nowhere", ""])
def test_a_cancelled_run_keeps_what_came_and_the_next_one_goes_on(
    backend: Backend,
    there: Elsewhere,
    here: tuple[RunFinished, Path],
    slide: Path,
    tiny_model: Path,
    tmp_path: Path,
    folder: str,
) -> None:
    pairs = ((str(slide.parent), folder),) if folder else ()
    elsewhere = Elsewhere(address=there.address, paths=pairs)
    asked = spec(slide, tiny_model, tmp_path / "cache", elsewhere=elsewhere)
    events = []
    for event in backend.submit(asked):
        events.append(event)
        if isinstance(event, RegionsScored):
            backend.cancel(asked.run_id)
    last = events[-1]
    assert isinstance(last, RunFinished)
    assert last.cancelled
    done = int(last.score_map.scored.sum())
    assert 0 < done < 144
    assert last.encoded_regions == done
    _, rest = ended(backend, asked.model_copy(update={"run_id": "next"}))
    assert rest.encoded_regions == 144 - done
    assert_same(here[0], rest)


def test_the_device_there_can_be_asked_for(backend: Backend, there: Elsewhere) -> None:
    told = backend.device(elsewhere=there)
    assert told.name == "cpu"
    assert f"in the Ray cluster at {there.address}" in told.reason
    with Backend() as another, pytest.raises(DeviceError, match="has no GPU"):
        another.device("cuda", elsewhere=there)


def test_a_cluster_that_is_lost_is_one_error_and_the_next_run_works(
    slide: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: list[XTError] = []
    before = below("xt_backend.engine.remote")
    with Backend() as backend:
        with ray_cluster() as lost:
            monkeypatch.setenv("RAY_AUTH_TOKEN", lost.token)
            asked = spec(
                slide, tiny_model, tmp_path / "cache", elsewhere=Elsewhere(address=lost.address)
            )
            for event in backend.submit(asked):
                if isinstance(event, RegionsScored) and not failed:
                    lost.lose()
                if isinstance(event, RunFailed):
                    failed.append(event.error)
        (error,) = failed
        assert isinstance(error, EngineError)
        assert error.way_out
        assert "Ray" in error.cause
        with pytest.raises(DeviceError, match=f"no Ray cluster at {lost.address}"):
            ended(backend, asked.model_copy(update={"run_id": "gone"}))
        _, here = ended(backend, spec(slide, tiny_model, tmp_path / "cache"))
    assert here.score_map.scored.all()
    assert 0 < here.encoded_regions <= 144
    assert below("xt_backend.engine.remote") == before


def test_without_a_token_nothing_is_tried(
    there: Elsewhere, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("HOME", str(tmp_path))
    with Backend() as backend, pytest.raises(UsageError, match="no token for the Ray cluster"):
        backend.device(elsewhere=there)


def test_a_wrong_token_is_refused(there: Elsewhere, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "cd" * 32)
    with Backend() as backend, pytest.raises(XTError, match="Ray"):
        backend.device(elsewhere=there)
