"""Ending a computation of the model between two of its layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

__all__ = ["Stopped", "stoppable"]


class Stopped(Exception):
    """A question was cancelled."""


@contextmanager
def stoppable(module: nn.Module, cancelled: Callable[[], bool]) -> Iterator[None]:
    """Within, every part of a module first looks whether it is still wanted.

    Args:
        module: What computes.
        cancelled: Whether it is not.

    Raises:
        Stopped: It is not.
    """

    def look(*_: Any) -> None:
        if cancelled():
            raise Stopped

    with ExitStack() as hooks:
        for part in module.modules():
            hooks.callback(part.register_forward_pre_hook(look).remove)
        yield
