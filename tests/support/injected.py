"""Faults that a `support.commands.Command` brings about in its own process."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

__all__ = [
    "BAD_DECODER",
    "bad_decoder",
    "die_at_replace",
    "full_disk",
    "held_encoder",
    "no_sockets",
]

BAD_DECODER = """
import os
import signal

import openslide


def _bad(call):
    def replaced(*arguments):
        name = os.path.basename(str(arguments[-1]))
        if "deadly" in name:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "endless" in name:
            nothing, _ = os.pipe()
            os.read(nothing, 1)
        return call(*arguments)

    return replaced


openslide.OpenSlide.detect_format = staticmethod(_bad(openslide.OpenSlide.detect_format))
openslide.OpenSlide.__init__ = _bad(openslide.OpenSlide.__init__)
"""


def die_at_replace(nth: int, after: bool) -> None:
    """SIGKILL itself at the nth time that a file gets its final name.

    Args:
        nth: From 1.
        after: Just after it has its name, else just before.
    """
    replace = os.replace
    calls = 0

    def deadly(*args: Any, **kwargs: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == nth and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*args, **kwargs)
        if calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = deadly


def full_disk(n_bytes: int) -> None:
    """No file can grow beyond a size: the nearest to a full disk that needs no rights."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))


def held_encoder(reached: Path, go: Path) -> None:
    """The encoder waits with every batch until it may go on.

    Args:
        reached: Gets a byte for each batch, before that.
        go: It may when this is there.
    """
    from xt_backend.model import RegionEncoder

    forward = RegionEncoder.forward

    def held(self: Any, images: Any) -> Any:
        with reached.open("ab") as file:
            file.write(b".")
        while not go.exists():
            time.sleep(0.01)
        return forward(self, images)

    RegionEncoder.forward = held  # type: ignore[method-assign]


def no_sockets() -> None:
    """Any socket ends the process with 99, whatever the caller does about errors."""

    def deny(*args: Any, **kwargs: Any) -> Any:
        os.write(2, f"a socket was asked for: {args} {kwargs}\n".encode())
        os._exit(99)

    class Denied(socket.socket):
        __init__ = deny

    socket.socket = Denied  # type: ignore[misc]
    socket.getaddrinfo = deny
    socket.create_connection = deny
    os.environ["HF_HUB_OFFLINE"] = "1"


def bad_decoder(folder: Path) -> None:
    """Have OpenSlide crash over slides with ``deadly`` in their names, and hang over ``endless``.

    Args:
        folder: Exists; for what processes load that this one starts.
    """
    (folder / "sitecustomize.py").write_text(BAD_DECODER)
    before = filter(None, [os.environ.get("PYTHONPATH")])
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), *before])
    exec(compile(BAD_DECODER, "bad", "exec"), {})
