"""Whether a window can be shown here, found out without opening one."""

from __future__ import annotations

import os
import re
import socket
import sys
from typing import Any

__all__ = ["display_problem"]

PATIENCE_S = 5.0
"""A display of another machine may be slow to answer."""

_WITH_WINDOWS = {"", "xcb", "wayland"}


def display_problem() -> str:
    """Why no window can be shown, or empty; on Linux only, as elsewhere there always is a display.

    Qt's platforms without a screen (``QT_QPA_PLATFORM=offscreen``) are left to those who ask for
    them.
    """
    if not sys.platform.startswith("linux"):
        return ""
    if re.split("[:;]", os.environ.get("QT_QPA_PLATFORM", ""))[0] not in _WITH_WINDOWS:
        return ""
    if os.environ.get("WAYLAND_DISPLAY"):
        return ""
    display = os.environ.get("DISPLAY", "")
    if display and _answers(display):
        return ""
    return f"{display} does not answer" if display else "neither DISPLAY nor WAYLAND_DISPLAY is set"


def _answers(display: str) -> bool:
    """Whether an X server listens there; names of unusual forms are left to Qt."""
    named = re.fullmatch(r"(?P<host>[^:/]*):(?P<number>\d+)(\.\d+)?", display)
    if named is None:
        return True
    host, number = named["host"], int(named["number"])
    if host in ("", "unix"):
        # Where X keeps it, whatever the temporary folder is.
        path = f"/tmp/.X11-unix/X{number}"  # nosec B108
        return any(_connects(socket.AF_UNIX, place) for place in (path, f"\0{path}"))
    try:
        found = socket.getaddrinfo(host, 6000 + number, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return any(_connects(family, place) for family, _, _, _, place in found)


def _connects(family: int, place: Any) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(PATIENCE_S)
        try:
            connection.connect(place)
        except OSError:
            return False
        return True
