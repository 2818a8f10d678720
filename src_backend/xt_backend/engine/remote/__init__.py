"""Encoding on another machine: the window's runs through a worker on a Ray cluster.

Names are loaded on first use: the process that speaks with the cluster needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xt_backend import lazy

if TYPE_CHECKING:
    from .link import NotWantedError
    from .messages import Looked
    from .run import Remote, RemoteRun

_HOMES = {
    "Looked": "messages",
    "NotWantedError": "link",
    "Remote": "run",
    "RemoteRun": "run",
}

__all__ = ["Looked", "NotWantedError", "Remote", "RemoteRun"]

__getattr__ = lazy.attributes(__name__, _HOMES)
