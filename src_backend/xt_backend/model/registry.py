"""One kind of registry for region encoders and context encoders: names to builders."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from xt_backend.errors import ModelError

__all__ = ["Registry", "unknown_name"]

T = TypeVar("T")


class Registry(Generic[T]):
    """Names to builders of one kind of thing.

    Args:
        what: What is registered, for messages, e.g. ``context encoder``.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._builders: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that makes a builder known under a name.

        Raises:
            ModelError: The name is taken.
        """

        def add(builder: T) -> T:
            if name in self._builders:
                raise ModelError(f"{self.what} {name!r} is registered twice", "use another name")
            self._builders[name] = builder
            return builder

        return add

    def get(self, name: str) -> T:
        """The builder of that name.

        Raises:
            ModelError: No such name; the message lists the options.
        """
        if name not in self._builders:
            raise unknown_name(self.what, name, self._builders)
        return self._builders[name]

    def __contains__(self, name: object) -> bool:
        return name in self._builders

    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return tuple(sorted(self._builders))


def unknown_name(what: str, name: str, options: Iterable[str]) -> ModelError:
    """The error for a name that is not among the options; lists the nearest, or all of a few."""
    known = sorted(options)
    near = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
    if len(known) <= 12:
        way_out = f"options: {', '.join(known) or 'none'}"
    elif near:
        way_out = f"did you mean {', '.join(near)}? All {len(known)} names are listed by timm"
    else:
        way_out = f"use one of the {len(known)} names that timm.list_models() gives"
    return ModelError(f"There is no {what} {name!r}", way_out)
