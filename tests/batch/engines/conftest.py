"""Some slides, what this process makes of them, and the files that must be the same everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from support.engines import files_of
from support.slides import write_tissue_slide

from xt_backend.batch import Batch, Run
from xt_backend.batch.engines import EngineOptions, open_engine
from xt_backend.config import ScoreOptions

N_SLIDES = 6


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    """As in the processes of the tests: on some processors bytes depend on how many there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many") / "slides"
    folder.mkdir()
    for number in range(N_SLIDES):
        write_tissue_slide(folder / f"s{number}.tiff", side=512 + 64 * number)
    (folder / "bad.tiff").write_bytes(b"no slide")
    return folder


@pytest.fixture(scope="module")
def local_files(
    slides: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """What one process writes."""
    out = tmp_path_factory.mktemp("here") / "run"
    Batch([slides], str(tiny_model), out, ScoreOptions(cache=out.with_name("cache"))).run()
    return files_of(out)


@pytest.fixture
def score_with(
    slides: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Run]:
    """Scores the slides with an engine, all paths relative to a folder of this process alone."""
    monkeypatch.chdir(slides.parent)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run(out: Path, on_event: Callable[[], None] = lambda: None, **engine: object) -> Run:
        options = ScoreOptions(cache=Path("cache-of-" + tmp_path.name))
        with open_engine(EngineOptions.checked(engine), options) as opened:
            batch = Batch([Path("slides")], str(tiny_model), out, options, device=opened.device)
            execute = opened.executor(batch.device)
            assert execute is not None
            return batch.run(on_event=lambda task, event: on_event(), execute=execute)

    return run
