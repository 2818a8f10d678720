"""The licence of a region encoder's weights, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xt_backend.model.card import ModelCard

__all__ = ["encoder_licence"]


def encoder_licence(card: ModelCard) -> str:
    """Licence, name and source of the weights; says so where the licence is not known."""
    info = card.region_encoder
    source = f" from {info.source}" if info.source else ""
    if info.source == "trained":
        source = ", trained further"
    licence = info.licence or "not stated; ask whoever made the weights"
    return f"{licence} ({info.name}{source})"
