"""A Ray cluster on loopback, with a token, as somebody else would have started it."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

__all__ = ["RayCluster", "ray_cluster"]


@dataclass
class RayCluster:
    """A cluster that is there.

    Attributes:
        address: HOST:PORT.
        token: That it asks for.
        process: Everything of it is below.
    """

    address: str
    token: str
    process: psutil.Process

    def named(self, word: str) -> list[psutil.Process]:
        """Its processes whose name or command has a word."""
        found = []
        for one in self.process.children(recursive=True):
            try:
                if word in f"{one.name()} {' '.join(one.cmdline())}":
                    found.append(one)
            except psutil.Error:
                continue
        return found

    def lose(self) -> None:
        """Kill it at once, as a machine that is switched off."""
        below = self.process.children(recursive=True)
        for one in [self.process, *below]:
            try:
                one.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(below, timeout=60)


@contextmanager
def ray_cluster(python_path: str) -> Iterator[RayCluster]:
    """Start a cluster of two processors, and leave nothing of it.

    Args:
        python_path: Where its workers find the package.
    """
    # Ray's sockets lie in it, whose paths may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="xt-far-", dir="/tmp"))
    port, *ports = _free_ports(5)
    token = secrets.token_hex(32)
    environment = {name: value for name, value in os.environ.items() if name[:4] != "RAY_"}
    environment |= {
        "PYTHONPATH": python_path,
        "OMP_NUM_THREADS": "1",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # listens on loopback only
        "RAY_agent_register_timeout_ms": "300000",
    }
    names = (
        "dashboard-agent-grpc-port",
        "dashboard-agent-listen-port",
        "metrics-export-port",
        "runtime-env-agent-port",
    )
    # With ports of its own a busy machine does not have to find them in time.
    given = [f"--{name}={number}" for name, number in zip(names, ports, strict=True)]
    said = (folder / "said").open("w+", encoding="utf-8")
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block",
        f"--port={port}", "--node-ip-address=127.0.0.1", "--include-dashboard=false",
        "--num-cpus=2", f"--temp-dir={folder}", f"--object-store-memory={100 << 20}", *given,
    ]  # fmt: skip
    with said:
        process = subprocess.Popen(
            command, env=environment, cwd=folder, stdout=said, stderr=subprocess.STDOUT
        )
        cluster = RayCluster(f"127.0.0.1:{port}", token, psutil.Process(process.pid))
        try:
            _wait(process, folder / "said")
            yield cluster
        finally:
            cluster.lose()
            process.wait()
            shutil.rmtree(folder, ignore_errors=True)


def _wait(process: subprocess.Popen[bytes], said: Path) -> None:
    while "Ray runtime started" not in said.read_text(encoding="utf-8"):
        try:
            process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError(f"Ray has not started: {said.read_text(encoding='utf-8')[-2000:]}")


def _free_ports(n: int) -> list[int]:
    with ExitStack() as stack:
        bound = [stack.enter_context(socket.socket()) for _ in range(n)]
        for one in bound:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in bound]
