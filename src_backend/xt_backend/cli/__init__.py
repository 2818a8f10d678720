"""The command line."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; always ends in `SystemExit` with a documented code.

    Args:
        arguments: Without the program's name; those of this process when None.
    """
    try:
        from .app import main as run
    except KeyboardInterrupt:
        # Loading takes a moment, too.
        sys.exit(130)
    run(arguments)
