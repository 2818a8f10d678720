"""State dicts of the reference: their prefixes, and loading them without leaving anything out."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from xt_backend.errors import ModelError

__all__ = ["load_exactly", "parameter", "without_prefix"]

_PREFIXES = ("module.", "param.")


def without_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without the prefix of a wrapper (``module.``, ``param.``) that all of them share."""
    for prefix in _PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            return {name.removeprefix(prefix): value for name, value in state.items()}
    return dict(state)


def parameter(state: Mapping[str, Tensor], name: str, what: str, ndim: int) -> Tensor:
    """One tensor that says how large a module is.

    Raises:
        ModelError: It is not there, or has another number of axes.
    """
    found = state.get(name)
    if found is None or found.ndim != ndim:
        problem = "lack" if found is None else f"have {tuple(found.shape)} as"
        raise ModelError(
            f"The weights {problem} {name}, so they are no {what} of the xT reference",
            "give a state dict with the reference's own names",
        )
    return found


def load_exactly(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Load weights, of which none may be missing, left over or of another shape.

    Raises:
        ModelError: Some are; names them.
    """
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in state.items()}
    groups = {
        "missing": [name for name in wanted if name not in given],
        "extra": [name for name in given if name not in wanted],
        "mis-shaped": [
            f"{name} {list(given[name])} instead of {list(shape)}"
            for name, shape in wanted.items()
            if name in given and given[name] != shape
        ],
    }
    problems = [
        f"{kind}: {', '.join(names[:6])}{f' and {len(names) - 6} more' if names[6:] else ''}"
        for kind, names in groups.items()
        if names
    ]
    if problems:
        raise ModelError(
            f"The weights do not fit {what}; {'; '.join(problems)}",
            "check the arguments that describe the model, or get its weights again",
        )
    module.load_state_dict(dict(state), strict=True)
