"""What the two layouts of models demand of a card, and at which pixel size each is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xt_backend.errors import ModelError
from xt_backend.keys import MPP_MAX, MPP_MIN

if TYPE_CHECKING:
    from xt_backend.model.card import ModelCard

__all__ = ["check_layout", "chosen_mpp"]


def check_layout(card: ModelCard) -> None:
    """Check the fields of a card that depend on its layout.

    Raises:
        ValueError: They contradict each other.
    """
    if card.layout == "napari-xt":
        if card.model_mpp is None or card.crop_px is not None:
            raise ValueError("layout napari-xt needs a model_mpp and has no crop_px")
        return
    if card.crop_px is None or card.crop_px % card.region_px or card.region_px != card.input_px:
        raise ValueError("layout reference needs a crop_px of whole regions, each one input")
    if card.task != "region":
        raise ValueError("layout reference predicts one label per crop: task region")


def chosen_mpp(card: ModelCard, given: float | None) -> float:
    """The pixel size at which a model is used, um/px; see `ModelCard.mpp`.

    Raises:
        ModelError: None is known, or the model was trained at another one.
    """
    if given is not None and not MPP_MIN <= given <= MPP_MAX:
        raise ModelError(
            f"A model mpp of {given:g} um/px is out of range", f"use {MPP_MIN:g} to {MPP_MAX:g}"
        )
    stated = card.model_mpp
    if stated is None or (given is not None and card.layout == "reference"):
        if given is None:
            raise ModelError(
                f"Model {card.name} states no pixel size",
                "give --model-mpp with the um/px that it was trained at",
            )
        return given
    if given is not None and abs(given - stated) > 1e-6 * stated:
        raise ModelError(
            f"Model {card.name} was trained at {stated:g} um/px, not at {given:g}",
            "leave --model-mpp out",
        )
    return stated
