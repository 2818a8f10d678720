"""A Ray cluster on this machine writes what one process does, whatever becomes of its workers."""

from __future__ import annotations

import csv
import ipaddress
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from support.cli import Call
from support.engines import below, files_of, gone

from xt_backend.batch import Batch, Run
from xt_backend.batch.engines import EngineOptions, open_engine
from xt_backend.config import ScoreOptions
from xt_backend.errors import EngineError, UsageError

pytest.importorskip("ray", reason="needs the extra ray")

WORKER = "ray::Member"


def listening(processes: list[psutil.Process]) -> Iterator[str]:
    for process in processes:
        for connection in process.net_connections(kind="inet"):
            if connection.status == psutil.CONN_LISTEN:
                yield connection.laddr.ip


@pytest.mark.timeout(600)
def test_workers_in_other_folders_write_the_same_bytes_though_one_is_killed(
    score_with: Callable[..., Run], local_files: dict[str, bytes], tmp_path: Path
) -> None:
    seen: dict[str, object] = {}

    def look_and_kill() -> None:
        if seen:
            return
        early = below(WORKER)
        for process in early:
            process.suspend()  # or they may have done all before the last one is there
        until = time.monotonic() + 400
        while len(workers := below(WORKER)) < 3 and time.monotonic() < until:
            psutil.wait_procs(early, timeout=0.2)
        for process in early:
            process.resume()
        seen["folders"] = {process.cwd() for process in workers}
        seen["addresses"] = set(listening(below("ray")))
        seen["killed"] = workers[0].pid
        seen["n"] = len(workers)
        workers[0].kill()

    run = score_with(tmp_path / "run", look_and_kill, engine="ray", processes=3)
    assert "killed" in seen, "nothing was told of any slide"
    assert seen["n"] == 3
    assert str(Path.cwd()) not in seen["folders"]  # type: ignore[operator]
    assert run.counts == {"done": 6, "failed": 1, "empty": 0}
    assert files_of(tmp_path / "run") == local_files
    addresses = [ipaddress.ip_address(str(text)) for text in seen["addresses"]]  # type: ignore[attr-defined]
    assert addresses
    for address in addresses:
        mapped = getattr(address, "ipv4_mapped", None)
        assert (mapped or address).is_loopback, address
    assert gone("/ray/"), "its servers"
    assert gone("ray::"), "its workers"


@pytest.mark.timeout(600)
def test_a_cluster_that_is_lost_ends_the_batch_and_loses_nothing(
    score_with: Callable[..., Run],
    local_files: dict[str, bytes],
    tiny_model: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "run"

    workers: list[psutil.Process] = []

    def lose() -> None:
        if workers:
            return
        workers.extend(below(WORKER))
        for process in workers:
            process.suspend()  # or it may be done before anybody notices
        for process in below("gcs_server"):
            process.kill()

    with pytest.raises(EngineError, match=r"Ray cluster at .* was lost: Connection refused"):
        score_with(out, lose, engine="ray", processes=1)
    assert gone("/ray/"), "its servers"
    assert gone("ray::"), "its workers"
    with (out / "slides.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 7
    lost = [row for row in rows if row["reason"].startswith("Interrupted before")]
    assert lost
    assert all("Run the same command again" in row["reason"] for row in lost)
    assert list(out.glob("*.partial")) == []
    options = ScoreOptions(cache=Path("cache-of-" + tmp_path.name))
    run = Batch([Path("slides")], str(tiny_model), out, options).run()
    assert run.counts == {"done": 6, "failed": 1, "empty": 0}
    assert files_of(out) == local_files


def test_a_cluster_that_is_not_there_is_told_before_any_work(
    call: Call, tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        done = call(
            "score", tissue_slide, "--model", tiny_model, "--out", tmp_path / "run",
            "--engine", "ray", "--address", address,
        )  # fmt: skip
    assert done.returncode == 2
    assert f"no Ray cluster at {address}: Connection refused" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("address", ["ray://host:10001", "host", ":6379", "host:http"])
def test_what_is_no_address_is_refused(address: str) -> None:
    options = EngineOptions(engine="ray", address=address)
    with pytest.raises(UsageError, match="HOST:PORT"), open_engine(options, ScoreOptions()):
        pass
