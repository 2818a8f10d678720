"""A Ray cluster on loopback with several nodes, each in a working folder of its own."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

__all__ = ["RayCluster", "ray_cluster"]

_STARTED = b"Ray runtime started"
_START_S = 240.0
_MB = 1 << 20


class RayCluster:
    """Nodes with one processor each; they listen on 127.0.0.1 and ask for a token.

    Attributes:
        address: HOST:PORT of the head.
        environment: Variables that whoever connects needs.
        folders: Working folder of each node.
    """

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self.folders: list[Path] = []
        self._folder = folder
        self._short = tempfile.mkdtemp(prefix="xr-")  # names of sockets may not be long
        self._nodes: list[subprocess.Popen[bytes]] = []

    def start(self, n_nodes: int) -> None:
        """Start the head, then the others; returns when all of them are there."""
        port = self.address.rpartition(":")[2]
        head = ["--head", "--port", port, "--include-dashboard", "false"]
        head += ["--temp-dir", self._short]
        for number in range(n_nodes):
            self._start_node(number, ["--address", self.address] if number else head)

    def _start_node(self, number: int, words: list[str]) -> None:
        folder = self._folder / f"node{number}"
        folder.mkdir()
        self.folders.append(folder)
        # Modules that the workers import, wherever they are.
        paths = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)
        log = folder / "log"
        with log.open("wb") as said:
            node = subprocess.Popen(
                [
                    *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block"),
                    *("--num-cpus", "1", "--num-gpus", "0", "--object-store-memory", str(80 * _MB)),
                    *("--node-ip-address", "127.0.0.1", "--disable-usage-stats", *words),
                ],
                cwd=folder,
                env={**os.environ, **self.environment, "PYTHONPATH": paths},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )
        self._nodes.append(node)
        end = time.monotonic() + _START_S
        while _STARTED not in log.read_bytes():
            if node.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"a node of Ray did not start: {log.read_text()[-2000:]}")
            time.sleep(0.1)

    @property
    def is_alive(self) -> bool:
        """All nodes are there, and the head answers."""
        if any(node.poll() is not None for node in self._nodes):
            return False
        host, _, port = self.address.rpartition(":")
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 5.0):
            return True
        return False

    def stop(self) -> None:
        """End all nodes, and what they have started."""
        started: list[psutil.Process] = []
        for node in self._nodes:
            with contextlib.suppress(psutil.Error):
                started += psutil.Process(node.pid).children(recursive=True)
            node.terminate()
        for node in self._nodes:
            try:
                node.wait(timeout=30)
            except subprocess.TimeoutExpired:
                node.kill()
                node.wait()
        for process in started:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(started, timeout=30)
        shutil.rmtree(self._short, ignore_errors=True)


@contextlib.contextmanager
def ray_cluster(folder: Path, n_nodes: int) -> Iterator[RayCluster]:
    """A cluster for as long as the block lasts."""
    cluster = RayCluster(folder)
    try:
        cluster.start(n_nodes)
        yield cluster
    finally:
        cluster.stop()
