"""Other tools beside ours: found wherever they are, and never a reason to stop."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from xt_backend.bench import peers
from xt_backend.bench.peers import Peer, PeerError, check_pythons, compare, find_peer, measure_peer
from xt_backend.bench.worker import open_worker
from xt_backend.errors import EngineError, InputNotFoundError

Interpreter = Callable[..., Path]

# A tool that knows no slides but answers as peer_child.py does.
ANSWERS = """
import json, sys
import numpy as np
wanted = json.loads(sys.stdin.readline())
print(json.dumps({{"ready": True}}), flush=True)
for line in sys.stdin:
    {run}
    print(json.dumps({{"seconds": 6.0, "regions": 3}}), flush=True)
"""


@pytest.fixture
def interpreter(tmp_path: Path) -> Interpreter:
    """A "Python" that says a version when it is asked for one, and runs `source` otherwise."""

    def make(source: str, version: str = "1.2.3") -> Path:
        folder = tmp_path / f"environment {len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        (folder / "source.py").write_text(source, encoding="utf-8")
        path = folder / "python"
        path.write_text(
            "#!/bin/sh\n"
            f'if [ "$1" = -c ]; then echo {version}; exit; fi\n'
            f"exec '{sys.executable}' '{folder}/source.py'\n",
            encoding="utf-8",
        )
        path.chmod(0o755)
        return path

    return make


class Ours:
    """Our process, with features for three regions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs: list[str] = []

    def ask(self, job: str) -> dict[str, Any]:
        self.jobs.append(job)
        if job == "keep":
            write_features(self.folder / "ours.npz", [[0, 0], [256, 0], [0, 256]])
        return {"seconds": 2.0, "seconds_open": 1.0} if job == "run" else {}


def write_features(path: Path, places: list[list[int]], shift: float = 0.0) -> None:
    """Features that tell their place."""
    at = np.asarray(places, np.int64)
    np.savez(path, features=np.hstack([at, at]) + np.float32(shift), places=at)


def measured(python: Path, folder: Path) -> dict[str, Any]:
    ours: Any = Ours(folder)
    peer = Peer("lazyslide", "1.2.3", str(python))
    return measure_peer(peer, ours, {"folder": str(folder)}, 2, lambda _: None)


def test_environments_are_looked_into(interpreter: Interpreter, tmp_path: Path) -> None:
    without, with_it = interpreter("", version=""), interpreter("")
    broken = tmp_path / "broken"
    broken.write_text("this is no program")
    found = find_peer("lazyslide", [broken, without, with_it])
    assert found == Peer("lazyslide", "1.2.3", str(with_it))
    here = find_peer("numpy", [without])
    assert here is not None
    assert (here.version, here.python) == (np.__version__, sys.executable)
    assert find_peer("no-such-peer", [without]) is None
    check_pythons([with_it])
    with pytest.raises(InputNotFoundError, match=r"There is no Python .*nowhere"):
        check_pythons([with_it, tmp_path / "nowhere"])


def test_both_run_in_turn(interpreter: Interpreter, tmp_path: Path) -> None:
    # In another order, and off by 1 in each of four numbers of three regions.
    kept = (
        "at = np.array([[0, 256], [256, 0], [0, 0]]); "
        "np.savez(wanted['folder'] + '/lazyslide.npz', features=np.hstack([at, at]) + 1, places=at)"
    )
    values = measured(interpreter(ANSWERS.format(run=kept)), tmp_path)
    apart = (12 / (4 * 256**2 * 2 / 3)) ** 0.5
    assert values == {
        "version": "1.2.3",
        "regions": 3,
        "seconds": 6.0,
        "seconds_ours": 3.0,
        "apart": pytest.approx(apart),
    }
    (row,) = peers.peer_table({"lazyslide": values}).rows
    assert row == ["LazySlide 1.2.3", "0.5", "1.0", "2.00", "at least 5", "features 0.83 % apart"]


def test_a_tool_that_ends_between_two_jobs_is_a_row_too(
    interpreter: Interpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = Ours.ask

    def slowly(ours: Ours, job: str) -> dict[str, Any]:
        if job == "run":
            psutil.wait_procs(psutil.Process().children(), timeout=60)
        return ask(ours, job)

    monkeypatch.setattr(Ours, "ask", slowly)
    once = ANSWERS.replace("for line in sys.stdin:", "for line in [sys.stdin.readline()]:")
    values = measured(interpreter(once.format(run="pass")), tmp_path)
    assert values == {"version": "1.2.3", "reason": "It ended with code 0"}


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise OSError('no /some/where/slide.tiff | here')", "OSError: no slide.tiff / here"),
        (ANSWERS.format(run="import os; os._exit(7)"), "It ended with code 7"),
        (ANSWERS.format(run="print('not JSON', flush=True)"), "It ended with code -9"),
        (
            "import json, sys\nsys.stdin.readline()\n"
            "print(json.dumps({'failed': 'ImportError: ' + 'x' * 500}), flush=True)",
            "ImportError: xxx",
        ),
        (ANSWERS.format(run="import time; time.sleep(60)"), "No answer within 2 s"),
    ],
)
def test_failures_are_told(
    interpreter: Interpreter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    reason: str,
) -> None:
    if "sleep" in source:
        monkeypatch.setattr(peers, "_LIMIT_S", 2.0)
    values = measured(interpreter(source), tmp_path)
    assert set(values) == {"version", "reason"}
    assert reason in values["reason"]
    assert len(values["reason"]) <= 160
    (row,) = peers.peer_table({"tiatoolbox": values}).rows
    assert row[:4] == ["TIAToolbox 1.2.3", "-", "-", "-"]
    assert row[-1] == f"not measured: {values['reason']}"


def test_a_python_that_does_not_start_is_told(tmp_path: Path) -> None:
    assert "FileNotFoundError" in measured(tmp_path / "gone", tmp_path)["reason"]


def test_only_the_same_regions_are_compared(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.npz", tmp_path / "theirs.npz"
    places = [[0, 0], [256, 0]]
    write_features(ours, places)
    write_features(theirs, places)
    assert compare(theirs, ours) == (2, 0.0)
    write_features(theirs, places[:1])
    with pytest.raises(PeerError, match=r"shape \(1, 4\), not \(2, 4\)"):
        compare(theirs, ours)
    write_features(theirs, [[0, 0], [224, 0]])
    with pytest.raises(PeerError, match="1 of 2 regions begin elsewhere"):
        compare(theirs, ours)


def test_our_own_failure_is_an_error(interpreter: Interpreter, tmp_path: Path) -> None:
    python = interpreter(ANSWERS.format(run="pass"))

    class Broken(Ours):
        def ask(self, job: str) -> dict[str, Any]:
            if job == "run":
                raise EngineError("It ended with code 1")
            return super().ask(job)

    ours: Any = Broken(tmp_path)
    peer = Peer("lazyslide", "1.2.3", str(python))
    with pytest.raises(EngineError):
        measure_peer(peer, ours, {"folder": str(tmp_path)}, 1, lambda _: None)


def test_a_worker_ends_with_its_block() -> None:
    source = "import os\nwhile input(): print('{\"pid\": %d}' % os.getpid(), flush=True)"
    with open_worker([sys.executable, "-c", source], {}, {}, quiet=True) as worker:
        pid = worker.ask("anything")["pid"]
        assert psutil.pid_exists(pid)
    assert not psutil.pid_exists(pid)
