"""Another machine that encodes for this one: its address, and where files are to it."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from xt_backend.config import Options
from xt_backend.errors import DeviceError, UsageError

__all__ = ["Elsewhere", "check_address", "check_listening", "path_pairs", "unreachable"]

AUTO = "auto"
"""The cluster of which this machine is a node."""


def check_address(address: str) -> None:
    """Refuse what is no address of a Ray cluster.

    Raises:
        UsageError: It is none.
    """
    host, _, port = address.rpartition(":")
    if address != AUTO and (not host or not port.isdigit() or "/" in address):
        raise UsageError(f"{address!r:.200} is no address of Ray", "Write HOST:PORT, or auto")


def unreachable(address: str, timeout_s: float = 2.0) -> str:
    """Why nobody answers at HOST:PORT; empty when somebody does."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s).close()
    except (OSError, OverflowError) as error:
        return getattr(error, "strerror", None) or str(error) or type(error).__name__
    return ""


def check_listening(address: str) -> None:
    """Refuse at once an address where nobody listens: Ray itself would try for minutes.

    Raises:
        DeviceError: Nobody does.
    """
    if address != AUTO and (why := unreachable(address, timeout_s=5.0)):
        raise DeviceError(
            f"There is no Ray cluster at {address}: {why}",
            "Check with ray status that it runs; its port is 6379 unless it was given another",
        )


def _checked(address: str) -> str:
    try:
        check_address(address)
    except UsageError as error:
        raise ValueError(f"It should be {error.way_out.removeprefix('Write ')}") from error
    return address


class Elsewhere(Options):
    """A Ray cluster that encodes regions for this machine.

    Attributes:
        address: HOST:PORT of its head, or ``auto`` for the cluster of which this machine is a node.
        paths: Pairs of folders: how this machine calls one, and how the cluster's machines do.
    """

    address: Annotated[str, AfterValidator(_checked)]
    paths: tuple[tuple[str, str], ...] = ()

    def mapped(self, path: Path) -> str:
        """A file's path as the other machines know it; the same where no pair holds it.

        Of several folders that hold it the innermost counts.
        """
        absolute = path.absolute()
        best: tuple[Path, str] | None = None
        for here, there in self.paths:
            folder = Path(here)
            if absolute.is_relative_to(folder) and (
                best is None or len(folder.parts) > len(best[0].parts)
            ):
                best = folder, there
        if best is None:
            return str(absolute)
        inside = absolute.relative_to(best[0]).parts
        # The other machine may have another system: its own folder tells how it separates names.
        separator = "\\" if re.match(r"^([A-Za-z]:\\|\\\\)", best[1]) else "/"
        return separator.join([best[1].rstrip("/\\"), *inside])


def path_pairs(text: str) -> tuple[tuple[str, str], ...]:
    """Read pairs of folders.

    Args:
        text: ``HERE=THERE``, several separated by semicolons or line breaks.

    Raises:
        UsageError: A pair without both sides, or a folder of this machine that is not absolute.
    """
    pairs = []
    for part in re.split(r"[;\n]", text):
        if not part.strip():
            continue
        here, _, there = (piece.strip() for piece in part.partition("="))
        if not here or not there:
            raise UsageError(
                f"{part.strip()!r:.200} is no pair of folders",
                "Write how this machine calls it, =, and how the other does: /data=/mnt/slides",
            )
        if not os.path.isabs(here):
            raise UsageError(f"{here!r:.200} is no whole path", "Begin it at the root")
        pairs.append((here, there))
    return tuple(pairs)
