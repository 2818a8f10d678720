"""``--repeat``: an earlier run instead of inputs and options."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xt_backend.errors import UsageError

if TYPE_CHECKING:
    from xt_backend.batch.repeat import Repeat

__all__ = ["repeated"]

_BESIDE = {"out", "cache", "no_cache", "workers", "batch_size", "offline", "dry_run", "isolate"}
_BESIDE |= {"give_up_after", "json"}
"""What may be said beside it: nothing that a result depends on."""


def repeated(
    run_json: Path, inputs: Sequence[Path] | None, config: Path | None, given: dict[str, Any]
) -> Repeat:
    """What is repeated; its options are added to those that were given.

    Args:
        run_json: Of the earlier run.
        inputs: Those that were named; there may be none.
        config: The configuration that was named; there may be none.
        given: As of `given_flags`.

    Raises:
        UsageError: More was said than `_BESIDE`, or the earlier run cannot be repeated.
    """
    from xt_backend.batch import read_repeat

    named = [name for name in given if name not in _BESIDE]
    if inputs or config is not None or named:
        first = "an INPUT" if inputs else "--config" if config else f"--{named[0]}"
        raise UsageError(
            f"--repeat takes all from the earlier run, and {first.replace('_', '-')} was given",
            "Leave it out, or leave --repeat out",
        )
    again = read_repeat(run_json)
    if "cache" in given or "no_cache" in given:
        again.options.pop("cache", None)
        again.options.pop("use_cache", None)
    given |= {**again.options, "model": again.model, **given}
    return again
