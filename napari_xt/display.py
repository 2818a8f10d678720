"""Whether a window can be shown here: asked before Qt is, which ends the process where it can't."""

from __future__ import annotations

from xt_backend.display import display_problem
from xt_backend.errors import UsageError
from xt_backend.keys import RunFile

__all__ = ["require_display"]


def require_display() -> None:
    """Make sure that a window can be shown; see `display_problem`.

    Raises:
        UsageError: There is no display.
    """
    if why := display_problem():
        raise UsageError(
            f"There is no display to open a window on: {why}",
            "Run it on a desktop or through `ssh -X`, or look at the picture that `score` writes "
            f"of every slide, <id>{RunFile.OVERLAY_PNG}",
        )
