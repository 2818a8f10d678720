"""What one pixel of a slide measures, and whether that can be believed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from xt_backend.errors import SlideMppError
from xt_backend.keys import MPP_MAX, MPP_MIN

__all__ = [
    "SlideMpp",
    "check_mpp",
    "check_scale",
    "mpp_from_file",
    "mpp_from_objective",
    "mpp_from_user",
    "objective_power",
]

MAX_ANISOTROPY = 0.10
"""Largest believable relative difference between x and y."""
MAX_COARSENESS = 1.2
"""How many times coarser than the model a slide may be without being asked for."""

_TOLERANCE = 1e-9
_PROPERTY_X = "openslide.mpp-x"
_PROPERTY_Y = "openslide.mpp-y"
_PROPERTY_OBJECTIVE = "openslide.objective-power"

WAY_OUT = (
    "Give the right pixel size with --slide-mpp (slide_mpp= in Python), or, if the file names an "
    "objective power that you trust, use --accept-objective-mpp"
)


@dataclass(frozen=True)
class SlideMpp:
    """Pixel size at level 0.

    Attributes:
        x: um/px along x.
        y: um/px along y.
        source: Where it came from: a property name, ``objective-power`` or ``user``.
    """

    x: float
    y: float
    source: str

    @property
    def value(self) -> float:
        """The mean of x and y, um/px."""
        return (self.x + self.y) / 2


def check_mpp(x: float, y: float) -> None:
    """Refuses a pixel size that cannot be true.

    Args:
        x: um/px along x.
        y: um/px along y.

    Raises:
        SlideMppError: Not finite, outside 0.05 to 5 um/px, or x and y more than 10 % apart.
    """
    problem = _problem(x, y)
    if problem:
        raise SlideMppError(problem, WAY_OUT)


def _problem(x: float, y: float) -> str:
    for value in (x, y):
        if not math.isfinite(value) or not MPP_MIN <= value <= MPP_MAX:
            return (
                f"a pixel size of {value:g} um/px is outside {MPP_MIN:g} to {MPP_MAX:g} um/px "
                "and cannot be right for a microscope slide"
            )
    if max(x, y) > min(x, y) * (1 + MAX_ANISOTROPY + _TOLERANCE):
        return (
            f"the pixel sizes along x ({x:g} um/px) and y ({y:g} um/px) differ by more than "
            f"{MAX_ANISOTROPY:.0%}"
        )
    return ""


def mpp_from_file(properties: Mapping[str, str]) -> tuple[SlideMpp | None, str]:
    """The pixel size that the file states.

    Args:
        properties: OpenSlide's properties.

    Returns:
        The pixel size and an empty text, or None and why it is missing or refused.
    """
    texts = [properties.get(_PROPERTY_X), properties.get(_PROPERTY_Y)]
    if texts == [None, None]:
        return None, "the slide does not state its pixel size (um/px)"
    if None in texts:
        return None, "the slide states its pixel size along one axis only"
    try:
        x, y = (float(str(text)) for text in texts)
    except ValueError:
        return None, "the pixel size in the slide is not a number"
    problem = _problem(x, y)
    if problem:
        return None, f"in the slide's own metadata, {problem}"
    return SlideMpp(x, y, _PROPERTY_X), ""


def objective_power(properties: Mapping[str, str]) -> float | None:
    """The objective's magnification that the file states, or None.

    Args:
        properties: OpenSlide's properties.
    """
    try:
        power = float(properties.get(_PROPERTY_OBJECTIVE, "nan"))
    except ValueError:
        return None
    return power if math.isfinite(power) and power > 0 else None


def mpp_from_objective(power: float) -> SlideMpp:
    """The nominal pixel size of an objective, 10 um / power.

    Args:
        power: Magnification, e.g. 20.

    Raises:
        SlideMppError: The result is outside 0.05 to 5 um/px.
    """
    mpp = 10.0 / power
    check_mpp(mpp, mpp)
    return SlideMpp(mpp, mpp, "objective-power")


def mpp_from_user(mpp: float) -> SlideMpp:
    """The pixel size that the user gave; it wins over what the file says.

    Args:
        mpp: um/px at level 0, for both axes.

    Raises:
        SlideMppError: Not a number, or outside 0.05 to 5 um/px.
    """
    way_out = f"Give --slide-mpp as a number from {MPP_MIN:g} to {MPP_MAX:g} um/px"
    try:
        value = float(mpp)
    except (TypeError, ValueError):
        raise SlideMppError(
            f"the pixel size given for the slide, {mpp!r}, is not a number", way_out
        ) from None
    problem = _problem(value, value)
    if problem:
        raise SlideMppError(problem, way_out)
    return SlideMpp(value, value, "user")


def check_scale(slide_mpp: float, model_mpp: float, allow_upsample: bool = False) -> None:
    """Refuses a slide that is much coarser than the model was made for.

    Args:
        slide_mpp: um/px of the slide's level 0.
        model_mpp: um/px that the model wants.
        allow_upsample: Accept it anyway; the pixels are then interpolated.

    Raises:
        SlideMppError: The slide is more than 1.2 times coarser than the model.
    """
    if allow_upsample or slide_mpp <= model_mpp * MAX_COARSENESS * (1 + _TOLERANCE):
        return
    raise SlideMppError(
        f"the slide has {slide_mpp:g} um/px, {slide_mpp / model_mpp:.3g} times coarser than the "
        f"{model_mpp:g} um/px of the model",
        "Use a scan of higher resolution or a model for coarser pixels, or enlarge the pixels "
        "knowingly with --allow-upsample",
    )
