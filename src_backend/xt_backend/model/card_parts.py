"""Parts of the model card that concern pixels, and what all parts have in common."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["CARD_CONFIG", "DenseHeadInfo", "DetectionInfo", "Fraction", "StainInfo"]

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


CARD_CONFIG = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Card(BaseModel):
    model_config = CARD_CONFIG


class DenseHeadInfo(_Card):
    """The decoder of dense and detection models.

    Attributes:
        width: Its channels.
    """

    width: int = Field(default=64, ge=1, le=1024)


class DetectionInfo(_Card):
    """How points are found in the heat maps of detection models.

    Attributes:
        peak_radius_um: Radius of an object: the peak drawn around a point in training falls off
            within it, and of two points that are nearer than it the weaker one is dropped.
        thresholds: Kind to the height (0 to 1) that a peak must reach to be a point; 0.5 where
            a kind has none.
    """

    peak_radius_um: float = Field(default=4.0, gt=0.0, le=1000.0)
    thresholds: dict[str, Fraction] = {}


class StainInfo(_Card):
    """The stain that every slide is brought to before it is encoded.

    Attributes:
        method: ``macenko`` or ``reinhard``.
        target: What the method measures, of an average training slide; see `StainStats`.
    """

    method: Literal["macenko", "reinhard"]
    target: dict[str, tuple[float, ...]]
