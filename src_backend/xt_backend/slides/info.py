"""What is known of a slide without reading pixels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xt_backend.errors import SlideMppError
from xt_backend.slides import mpp as mpp_rules
from xt_backend.slides.handle import Handle
from xt_backend.slides.mpp import SlideMpp

__all__ = ["SlideInfo", "read_info"]

_WHITE = (255, 255, 255)
_BOUNDS = ("x", "y", "width", "height")


@dataclass(frozen=True)
class SlideInfo:
    """What is known of a slide without reading pixels; no patient text, no path.

    Attributes:
        name: File name, or name of the DICOM folder.
        vendor: OpenSlide's name of the format, e.g. ``aperio``.
        width_px: Width of level 0.
        height_px: Height of level 0.
        level_dimensions: (width, height) of each level, its own px.
        level_downsamples: Level-0 px per px of each level, as OpenSlide has it.
        mpp: Pixel size at level 0, None if unknown or not believable.
        mpp_problem: Why `mpp` is None, else empty.
        objective_power: Magnification that the file states, e.g. 20, or None.
        bounds_px: x, y, width, height of the area with pixels, level-0 px; the whole slide where
            the file names none.
        has_bounds: Whether the file names them.
        background_rgb: Colour of what was not scanned.
    """

    name: str
    vendor: str
    width_px: int
    height_px: int
    level_dimensions: tuple[tuple[int, int], ...]
    level_downsamples: tuple[float, ...]
    mpp: SlideMpp | None
    mpp_problem: str
    objective_power: float | None
    bounds_px: tuple[int, int, int, int]
    has_bounds: bool
    background_rgb: tuple[int, int, int]


def read_info(
    path: Path, handle: Handle, user_mpp: SlideMpp | None, accept_objective_mpp: bool
) -> SlideInfo:
    """Gathers it from OpenSlide's properties.

    Args:
        path: What the user named; only its last part is kept.
        handle: The open slide.
        user_mpp: Pixel size that the user gave, or None.
        accept_objective_mpp: Where the file states no believable pixel size, take 10 um divided
            by its objective power.
    """
    properties = handle.properties
    width, height = handle.level_dimensions[0]
    mpp, problem = mpp_rules.mpp_from_file(properties)
    power = mpp_rules.objective_power(properties)
    if user_mpp is not None:
        mpp, problem = user_mpp, ""
    elif mpp is None and accept_objective_mpp and power is not None:
        try:
            mpp, problem = mpp_rules.mpp_from_objective(power), ""
        except SlideMppError as error:
            problem = f"{problem}, and with its objective power of {power:g}, {error.cause}"
    elif mpp is None and accept_objective_mpp:
        problem = f"{problem}, nor an objective power"
    bounds = _bounds(properties, width, height)
    return SlideInfo(
        # resolve() names a folder that was given as "." or "..".
        name=path.name or path.resolve().name,
        vendor=properties.get("openslide.vendor", "unknown"),
        width_px=width,
        height_px=height,
        level_dimensions=handle.level_dimensions,
        level_downsamples=handle.level_downsamples,
        mpp=mpp,
        mpp_problem=problem,
        objective_power=power,
        bounds_px=bounds or (0, 0, width, height),
        has_bounds=bounds is not None,
        background_rgb=_background(properties.get("openslide.background-color", "")),
    )


def _bounds(
    properties: Mapping[str, str], width: int, height: int
) -> tuple[int, int, int, int] | None:
    """The bounds that the file names, cut to the slide; None if there are none that make sense."""
    try:
        x, y, w, h = (int(properties[f"openslide.bounds-{key}"]) for key in _BOUNDS)
    except (KeyError, ValueError):
        return None
    left, top = max(x, 0), max(y, 0)
    right, lower = min(x + w, width), min(y + h, height)
    if right <= left or lower <= top:
        return None
    return left, top, right - left, lower - top


def _background(text: str) -> tuple[int, int, int]:
    match = re.fullmatch(r"([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})", text)
    if match is None:
        return _WHITE
    red, green, blue = (int(part, 16) for part in match.groups())
    return red, green, blue
