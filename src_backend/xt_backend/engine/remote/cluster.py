"""A Ray cluster that is there already: connecting to it, and noticing that it is gone."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import ray
from ray.exceptions import RayError

from xt_backend.errors import DeviceError, EngineError

from ..elsewhere import unreachable

__all__ = ["Pulse", "alive_nodes", "connect", "last_line"]

_CHECK_S = 2.0
_GONE_AFTER = 3
"""So many times in a row the cluster must not answer."""


def connect(address: str) -> str:
    """Connect this process to a cluster; Ray ends the process when that is lost.

    Args:
        address: HOST:PORT or ``auto``.

    Returns:
        HOST:PORT.

    Raises:
        DeviceError: There is none, this machine is none of its nodes, or the token is wrong.
    """
    try:
        ray.init(address=address, log_to_driver=False)
    except Exception as error:  # Ray raises whatever it likes, also of its own
        raise DeviceError(
            f"There is no Ray cluster at {address} to work on: {last_line(error)[:300]}",
            "See with ray status that it runs, that this machine is one of its nodes, and that "
            "both have the same version of Ray and the same token",
        ) from error
    return str(ray.get_runtime_context().gcs_address)


def alive_nodes() -> list[dict[str, float]]:
    """Resources of each node of the cluster, e.g. ``CPU`` and ``GPU``."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [dict(node["Resources"]) for node in nodes if node["Alive"]]


def last_line(error: BaseException) -> str:
    """What an error of Ray says at its end, where its cause stands."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


class Pulse:
    """Looks now and then whether a cluster is still there.

    Ray itself waits for a minute and then ends the process.

    Args:
        address: HOST:PORT.
        way_out: What to do when it is not.
    """

    def __init__(self, address: str, way_out: str) -> None:
        self._address, self._way_out = address, way_out
        self._looked = time.monotonic()
        self._silent = 0

    def check(self) -> None:
        """Look, if the last look is some time ago.

        Raises:
            EngineError: The cluster is gone.
        """
        now = time.monotonic()
        if now - self._looked < _CHECK_S:
            return
        self._looked = now
        why = unreachable(self._address)
        self._silent = self._silent + 1 if why else 0
        if self._silent >= _GONE_AFTER:
            raise self._lost(why)
        if why:
            return
        with contextlib.suppress(RayError):
            if not alive_nodes():
                raise self._lost("all of its nodes are dead")

    def _lost(self, why: str) -> EngineError:
        return EngineError(f"The Ray cluster at {self._address} was lost: {why}", self._way_out)
