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
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

from xt_backend.engine.elsewhere import unreachable

__all__ = ["RayCluster", "ray_cluster"]

_STARTED = "Ray runtime started"
_PORTS = (
    "dashboard-agent-grpc-port",
    "dashboard-agent-listen-port",
    "metrics-export-port",
    "runtime-env-agent-port",
)
"""Where a node has them of its own, a busy machine does not have to find them in time."""


class RayCluster:
    """Nodes that listen on 127.0.0.1 and ask for a token, each in a working folder of its own.

    Attributes:
        address: HOST:PORT of the head.
        token: That it asks for.
        folders: Working folder of each node.
    """

    def __init__(self, folder: Path, n_cpus: int) -> None:
        self.address = f"127.0.0.1:{_free_ports(1)[0]}"
        self.token = secrets.token_hex(32)
        self.folders: list[Path] = []
        self._folder, self._n_cpus = folder, n_cpus
        self._nodes: list[psutil.Popen] = []

    def start_node(self) -> None:
        """Start the head, or one more node; returns when it is there."""
        number = len(self._nodes)
        folder = self._folder / f"node{number}"
        folder.mkdir()
        self.folders.append(folder)
        head = [
            "--head", f"--port={self.address.rpartition(':')[2]}", "--include-dashboard=false",
            f"--temp-dir={self._folder}",
        ]  # fmt: skip
        ports = zip(_PORTS, _free_ports(len(_PORTS)), strict=True)
        command = [
            sys.executable, "-m", "ray.scripts.scripts", "start", "--block",
            "--node-ip-address=127.0.0.1", f"--num-cpus={self._n_cpus}", "--num-gpus=0",
            f"--object-store-memory={80 << 20}", "--disable-usage-stats",
            *(f"--{name}={port}" for name, port in ports),
            *([f"--address={self.address}"] if number else head),
        ]  # fmt: skip
        environment = {name: value for name, value in os.environ.items() if name[:4] != "RAY_"}
        environment |= {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path if path),
            "OMP_NUM_THREADS": "1",  # bytes depend on it
            "RAY_agent_register_timeout_ms": "300000",
        }
        said = folder / "said"
        with said.open("wb") as log:
            node = psutil.Popen(
                command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT,
            )  # fmt: skip
        self._nodes.append(node)
        while _STARTED not in said.read_text(encoding="utf-8"):
            try:
                node.wait(timeout=0.2)
            except psutil.TimeoutExpired:
                continue
            raise AssertionError(f"Ray has not started: {said.read_text()[-2000:]}")

    @property
    def is_alive(self) -> bool:
        """All nodes are there, and the head answers."""
        return all(node.poll() is None for node in self._nodes) and not unreachable(self.address)

    def named(self, word: str) -> list[psutil.Process]:
        """Its processes whose name or command has a word."""
        found = []
        for one in self._below():
            try:
                if word in f"{one.name()} {' '.join(one.cmdline())}":
                    found.append(one)
            except psutil.Error:
                continue
        return found

    def _below(self) -> list[psutil.Process]:
        found: list[psutil.Process] = []
        for node in self._nodes:
            with suppress(psutil.NoSuchProcess):
                found += node.children(recursive=True)
        return found

    def lose(self) -> None:
        """Kill it at once, as machines that are switched off."""
        below = self._below()
        for one in [*self._nodes, *below]:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(below, timeout=60)
        for node in self._nodes:
            node.wait()


@contextmanager
def ray_cluster(n_nodes: int = 1, n_cpus: int = 2) -> Iterator[RayCluster]:
    """Start a cluster, and leave nothing of it.

    Args:
        n_nodes: How many.
        n_cpus: Processors of each.
    """
    # Ray's sockets lie in it, whose paths may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="xt-far-", dir="/tmp"))
    cluster = RayCluster(folder, n_cpus)
    try:
        for _ in range(n_nodes):
            cluster.start_node()
        yield cluster
    finally:
        cluster.lose()
        shutil.rmtree(folder, ignore_errors=True)


def _free_ports(n: int) -> list[int]:
    with ExitStack() as stack:
        bound = [stack.enter_context(socket.socket()) for _ in range(n)]
        for one in bound:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in bound]
