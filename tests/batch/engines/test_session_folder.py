"""What a Ray cluster of our own leaves behind when its process is killed goes with the next one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from xt_backend.batch.engines.session_folder import session_folder

HOLD = """
from xt_backend.batch.engines.session_folder import session_folder
with session_folder() as folder:
    (folder / "session").mkdir()
    print(folder, flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def held() -> tuple[subprocess.Popen[str], Path]:
    """A process that uses a folder of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def end(process: subprocess.Popen[str], number: int) -> None:
    process.send_signal(number)
    process.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no signals")
def test_the_folder_of_a_killed_process_is_removed_and_that_of_a_living_one_is_not() -> None:
    killed, left = held()
    end(killed, signal.SIGKILL)
    assert (left / "session").is_dir()
    living, used = held()
    try:
        assert not left.exists(), "the next process sweeps"
        with session_folder() as own:
            assert own.is_dir()
            assert (used / "session").is_dir()
        assert not own.exists()
    finally:
        end(living, signal.SIGKILL)


def test_folders_without_a_lock_go_when_they_are_old_and_others_never(temporary: Path) -> None:
    new, old, other = (temporary / name for name in ("xt-ray-new", "xt-ray-old", "ray-old"))
    target = temporary / "target"
    for folder in (new, old, other, target):
        folder.mkdir()
    for folder in (old, other, target):
        os.utime(folder, (time.time() - 1e6,) * 2)
    (temporary / "xt-ray-link").symlink_to(target)
    with session_folder():
        pass
    left = {path.name for path in temporary.iterdir()}
    assert left == {"xt-ray-new", "ray-old", "target", "xt-ray-link"}
