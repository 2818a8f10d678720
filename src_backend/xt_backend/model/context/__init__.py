"""Context encoders: what lets the regions of a field see each other."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from xt_backend.errors import ModelError
from xt_backend.model.context.attention import AttentionContext
from xt_backend.model.context.base import ContextEncoder
from xt_backend.model.context.hyper import HyperContext
from xt_backend.model.context.mamba import MambaContext
from xt_backend.model.context.mamba2 import Mamba2Context
from xt_backend.model.context.none import NoContext
from xt_backend.model.context.transformer_xl import TransformerXLContext
from xt_backend.model.registry import Registry
from xt_backend.model.seeding import seeded

__all__ = ["CONTEXTS", "ContextEncoder", "build_context", "default_options", "list_contexts"]

CONTEXTS: Registry[type[ContextEncoder]] = Registry("context encoder")
for _class in (
    NoContext,
    AttentionContext,
    HyperContext,
    MambaContext,
    Mamba2Context,
    TransformerXLContext,
):
    CONTEXTS.register(_class.kind)(_class)


def list_contexts() -> tuple[str, ...]:
    """Names that `build_context` takes."""
    return CONTEXTS.names()


def build_context(
    kind: str,
    dim: int,
    layers: int,
    *,
    generator: torch.Generator | None = None,
    **options: Any,
) -> ContextEncoder:
    """Build a context encoder.

    Args:
        kind: One of `list_contexts`.
        dim: Size D of the tokens.
        layers: Number of layers.
        generator: Source of the initial weights; None is seed 0.
        options: Options of the kind, see its class.

    Returns:
        A module with forward ``(tokens (B, L, D), positions_um (B, L, 2), padding_mask=None
        (B, L) bool, True = padding) -> (B, L, D)``.

    Raises:
        ModelError: Unknown kind or option, or an option out of range.
    """
    builder = CONTEXTS.get(kind)
    known = list(default_options(kind))
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ModelError(
            f"Context encoder {kind!r} has no option {', '.join(unknown)}",
            f"options: {', '.join(known) or 'none'}",
        )
    if dim < 1:
        raise ModelError(f"Context dimension {dim} is out of range", "it must be at least 1")
    with seeded(generator):
        try:
            return builder(dim, layers, **options)
        except TypeError as error:
            raise ModelError(
                f"An option of context encoder {kind!r} has the wrong type: {error}",
                "check the options of the model",
            ) from error


def default_options(kind: str) -> dict[str, Any]:
    """All options of a kind with their defaults, as plain JSON values.

    Model files hold every option, so that a default of a later version changes no stored model.

    Raises:
        ModelError: Unknown kind.
    """
    parameters = inspect.signature(CONTEXTS.get(kind)).parameters
    defaults = {
        name: parameter.default
        for name, parameter in parameters.items()
        if name not in ("dim", "layers")
    }
    return {k: list(v) if isinstance(v, tuple) else v for k, v in defaults.items()}
