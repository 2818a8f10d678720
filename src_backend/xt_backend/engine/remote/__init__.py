"""Encoding on another machine: the window's runs through a worker on a Ray cluster."""

from __future__ import annotations

from .link import NotWantedError
from .messages import Looked
from .run import Remote, RemoteRun

__all__ = ["Looked", "NotWantedError", "Remote", "RemoteRun"]
