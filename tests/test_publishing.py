from __future__ import annotations

import errno
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xt_backend.errors import NoSpaceError, OutputError
from xt_backend.publishing import publish, publish_bytes, sweep_partials

PARTIAL = "x.bin." + "0" * 32 + ".partial"


def test_publishes_whole_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    publish_bytes(path, b"old")
    with publish(path) as temp:
        temp.write_bytes(b"new")
        assert temp.parent == tmp_path
        assert temp.name.endswith(".partial")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_names_as_long_as_file_systems_allow(tmp_path: Path) -> None:
    path = tmp_path / ("ä" * 120 + ".csv")
    publish_bytes(path, b"x")
    assert path.read_bytes() == b"x"


@pytest.mark.skipif(os.name == "nt", reason="modes mean nothing there")
def test_private_from_the_first_byte(tmp_path: Path) -> None:
    with publish(tmp_path / "x", private=True) as temp:
        assert temp.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()])
def test_an_error_in_the_body_leaves_all_as_it_was(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "x.bin"
    publish_bytes(path, b"old")

    def fail() -> None:
        with publish(path) as temp:
            temp.write_bytes(b"half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, NoSpaceError),
        (errno.EDQUOT, NoSpaceError),
        (errno.EFBIG, NoSpaceError),
        (errno.EACCES, OutputError),
        (errno.EROFS, OutputError),
        (errno.EPERM, OutputError),
        (errno.EIO, OutputError),
    ],
)
@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
def test_a_fault_at_any_call_leaves_all_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[OutputError], call: str
) -> None:
    path = tmp_path / "x.bin"
    publish_bytes(path, b"old")

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OutputError) as caught:
        publish_bytes(path, b"new content")
    assert type(caught.value) is kind
    assert caught.value.exit_code == 5
    assert str(path) in str(caught.value)
    if kind is NoSpaceError:
        assert "11 bytes" in str(caught.value)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_or_a_folder_in_the_way(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="Cannot write"):
        publish_bytes(tmp_path / "no" / "x", b"x")
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    with pytest.raises(OutputError):
        publish_bytes(tmp_path / "folder", b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_sweeps_only_old_orphans_of_its_own(tmp_path: Path) -> None:
    orphan, young = tmp_path / PARTIAL, tmp_path / PARTIAL.replace("0", "1")
    foreign = tmp_path / "download.partial"
    folder = tmp_path / PARTIAL.replace("0", "2")
    folder.mkdir()
    started = time.time() - 10
    for path in (orphan, young, foreign):
        path.write_bytes(b"half")
    for path in (orphan, foreign, folder):
        os.utime(path, (started - 5, started - 5))
    assert sweep_partials(tmp_path, started) == (orphan,)
    assert set(tmp_path.iterdir()) == {young, foreign, folder}
    assert sweep_partials(tmp_path / "no such folder", started) == ()


@pytest.mark.skipif(os.name == "nt", reason="no locks there; age decides")
def test_never_sweeps_what_is_being_written(tmp_path: Path) -> None:
    with publish(tmp_path / "x") as temp:
        temp.write_bytes(b"slow")
        os.utime(temp, (1, 1))
        assert sweep_partials(tmp_path, time.time()) == ()
        assert temp.exists()
    assert (tmp_path / "x").read_bytes() == b"slow"


@pytest.mark.parametrize(("age_s", "swept"), [(600, False), (7200, True)])
def test_without_locks_only_age_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age_s: float, swept: bool
) -> None:
    def no_locks(*args: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(fcntl, "flock", no_locks)
    publish_bytes(tmp_path / "x", b"written without locks")
    orphan = tmp_path / PARTIAL
    orphan.touch()
    now = time.time()
    os.utime(orphan, (now - age_s, now - age_s))
    assert (sweep_partials(tmp_path, now) == (orphan,)) is swept
    assert (tmp_path / "x").exists()


WRITER = """
import hashlib, sys
from pathlib import Path
from xt_backend.store import publish_bytes
print("ready", flush=True)
for i in range(10**9):
    body = str(i).encode() * (200_000 + 1000 * i % 77)
    publish_bytes(Path(sys.argv[1]) / f"{i % 3}.bin", hashlib.sha256(body).digest() + body)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_killed_at_any_moment_every_file_is_whole(tmp_path: Path) -> None:
    moments = random.Random(3)
    seen = 0
    for _ in range(5):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        while not list(tmp_path.glob("*.bin")) and child.poll() is None:
            time.sleep(0.005)
        time.sleep(moments.uniform(0.0, 0.3))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        for path in tmp_path.glob("*.bin"):
            data = path.read_bytes()
            assert hashlib.sha256(data[32:]).digest() == data[:32]
            seen += 1
    assert seen >= 5
    sweep_partials(tmp_path, time.time())
    assert not list(tmp_path.glob("*.partial"))


MIDST = """
import os, signal, sys
from pathlib import Path
from xt_backend.publishing import publish
with publish(Path(sys.argv[1])) as temp, open(temp, "wb") as file:
    file.write(bytes(int(sys.argv[2])))
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
@pytest.mark.parametrize("n_bytes", [0, 100_000])
@pytest.mark.parametrize("before", [None, b"whole"])
def test_killed_in_the_midst_of_a_file_what_was_there_stays(
    tmp_path: Path, n_bytes: int, before: bytes | None
) -> None:
    path = tmp_path / "x.bin"
    if before is not None:
        publish_bytes(path, before)
    command = [sys.executable, "-c", MIDST, str(path), str(n_bytes)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert (path.read_bytes() if path.exists() else None) == before
    (partial,) = set(tmp_path.iterdir()) - {path}
    assert partial.stat().st_size == n_bytes
    assert sweep_partials(tmp_path, time.time() + 60) == (partial,)


FULL = """
import resource, signal, sys
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
import numpy as np
from xt_backend.errors import XTError
from xt_backend.store import RegionStore, StoreKey, publish, publish_bytes

def as_bytes(path):
    publish_bytes(path, bytes(4 << 20))

def as_stream(path):
    with publish(path) as temp, open(temp, "wb") as file:
        for _ in range(64):
            file.write(bytes(1 << 16))

def as_shard(path):
    store = RegionStore.open(path.parent / "cache", StoreKey("s", {}, {}))
    n = 2048
    cells = np.stack([np.arange(n), np.arange(n)], 1).astype(np.int32)
    store.append(cells, np.ones((n, 1, 1024), np.float16), np.zeros(n, np.uint8))

try:
    globals()[sys.argv[1]](Path(sys.argv[2]))
except XTError as error:
    print(error)
    sys.exit(error.exit_code)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs RLIMIT_FSIZE")
@pytest.mark.parametrize(
    ("way", "size"),
    [("as_bytes", "4194304 bytes"), ("as_stream", "1048576 bytes"), ("as_shard", "bytes")],
)
def test_disk_full_ends_cleanly(tmp_path: Path, way: str, size: str) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", FULL, way, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 5, done.stderr
    assert "No space" in done.stdout
    assert size in done.stdout
    assert str(tmp_path) in done.stdout
    assert path.read_bytes() == b"old"
    assert not list(tmp_path.rglob("*.partial"))
    assert not list(tmp_path.rglob("*.h5"))


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
def test_a_fault_at_the_nth_call_never_leaves_half_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "x.bin"
    publish_bytes(path, b"0")
    whole: Callable[..., Any] = getattr(os, call)
    for nth in range(1, 9):
        calls = 0

        def at_nth(*args: Any, nth: int = nth, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == nth:
                raise OSError(errno.ENOSPC, "No space left on device")
            return whole(*args, **kwargs)

        monkeypatch.setattr(os, call, at_nth)
        before, wanted = path.read_bytes(), str(nth).encode()
        try:
            publish_bytes(path, wanted)
        except NoSpaceError:
            assert path.read_bytes() in (before, wanted)
        else:
            assert calls < nth
            assert path.read_bytes() == wanted
            break
        finally:
            monkeypatch.undo()
        assert list(tmp_path.iterdir()) == [path]
    else:
        pytest.fail("never ran clean")
