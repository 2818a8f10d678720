"""What ended a run, in words."""

from __future__ import annotations

import logging

from xt_backend.errors import EngineError, OutOfMemoryError, XTError

from .device import is_out_of_memory
from .events import RunFailed
from .spec import RunSpec

__all__ = ["failure_of"]

_log = logging.getLogger(__name__)


def failure_of(error: Exception, spec: RunSpec) -> RunFailed:
    """The last event of a run that an error ended; one that nobody foresaw is logged.

    Args:
        error: Any.
        spec: What was asked for.
    """
    return RunFailed(spec.run_id, _told(error, spec))


def _told(error: Exception, spec: RunSpec) -> XTError:
    if isinstance(error, XTError):
        return error
    if isinstance(error, MemoryError):
        return EngineError("The machine ran out of memory", "Close other programs, or use --roi")
    if is_out_of_memory(error):
        return OutOfMemoryError(
            f"{spec.slide.name} does not fit into the memory of the device",
            "Use --roi for a part of it, --device cpu, or a smaller model",
        )
    _log.error("run failed", exc_info=error)
    return EngineError(
        f"Unexpected {type(error).__name__}: {error}",
        "Please report this with the log; other slides are not affected",
    )
