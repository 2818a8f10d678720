"""Bringing the stain of one slide to that of others.

Both methods come from the papers alone: Macenko et al., A method for normalizing histology slides
for quantitative analysis, ISBI 2009; Reinhard et al., Color transfer between images, 2001.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xt_backend.errors import ModelError, RegionReadError
from xt_backend.slides.slide import Slide
from xt_backend.slides.thumbnail import Thumbnail

__all__ = ["StainNormaliser", "StainStats", "average_stain", "measure_stain", "sample_stained"]

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]

NUMERICS_SCHEMA = 1

_WHITE = 240.0
"""Light that comes through the glass, of 255; Macenko's own value."""

_STAINED = 0.15
"""Optical density (natural logarithm) in every channel from which on a pixel counts as stained."""

_PERCENT = (1.0, 99.0)
_ONE_STAIN = 0.999
_N_PLACES = 64
_PLACE_PX = 128
_MIN_PIXELS = 1000
_SIZES = {"macenko": {"stains": 6, "strongest": 2}, "reinhard": {"mean": 3, "std": 3}}
_DENSITY = -np.log(np.maximum(np.arange(256), 1) / _WHITE)


@dataclass(frozen=True)
class StainStats:
    """The stain of a slide as a method sees it.

    Attributes:
        method: ``macenko`` or ``reinhard``.
        values: Macenko: ``stains``, red, green and blue density of haematoxylin, then of eosin,
            each of length 1, and ``strongest``, the 99th percentile of both. Reinhard: ``mean`` and
            ``std`` of L, a and b.

    Raises:
        ModelError: Other values than these.
    """

    method: str
    values: Mapping[str, Sequence[float]]

    def __post_init__(self) -> None:
        sizes = {name: len(value) for name, value in self.values.items()}
        good = sizes == _SIZES.get(self.method)
        spread = self.values.get("strongest" if self.method == "macenko" else "std", (0.0,))
        if not good or not np.isfinite(np.concatenate([*self.values.values()])).all():
            raise ModelError(
                f"Stain statistics {dict(self.values)} are none of method {self.method}",
                "get the model file again",
            )
        if min(spread) <= 0:
            raise ModelError("Stain statistics without spread", "get the model file again")

    def array(self, name: str) -> Floats:
        """One of the values, float64."""
        return np.array(self.values[name], np.float64)


class StainNormaliser:
    """Brings pixels of one slide to a target stain.

    Args:
        own: Of the slide; None leaves its pixels as they are.
        target: Of the same method.
    """

    def __init__(self, own: StainStats | None, target: StainStats) -> None:
        self._own = own
        self._target = target
        if own is not None and target.method == "macenko":
            stains, wanted = (stats.array("stains").reshape(2, 3).T for stats in (own, target))
            scale = target.array("strongest") / own.array("strongest")
            self._mixing = wanted @ np.diag(scale) @ np.linalg.pinv(stains)

    def __call__(self, pixels: Pixels) -> Pixels:
        """Normalise (..., 3) uint8 RGB."""
        if self._own is None or not pixels.size:
            return pixels
        if self._target.method == "macenko":
            density = _DENSITY.astype(np.float32)[pixels] @ self._mixing.T.astype(np.float32)
            return _bytes(_WHITE * np.exp(-density))
        from skimage.color import lab2rgb, rgb2lab

        own, target = self._own, self._target
        lab = (rgb2lab(pixels) - own.array("mean")) / own.array("std")
        return _bytes(lab2rgb(lab * target.array("std") + target.array("mean")) * 255)

    def numerics(self) -> dict[str, Any]:
        """What the pixels depend on besides the slide: part of the region store's key."""
        values = {name: list(value) for name, value in self._target.values.items()}
        return {"method": self._target.method, "target": values, "schema": NUMERICS_SCHEMA}


def measure_stain(method: str, pixels: Pixels) -> StainStats | None:
    """Measure the stain of stained pixels.

    Args:
        method: ``macenko`` or ``reinhard``.
        pixels: (n, 3) uint8 RGB; glass among them does not count.

    Returns:
        None where there are too few stained pixels, or of one stain only.
    """
    density = _DENSITY[pixels]
    stained = (density > _STAINED).all(axis=1)
    if stained.sum() < _MIN_PIXELS:
        return None
    if method == "reinhard":
        from skimage.color import rgb2lab

        lab = rgb2lab(pixels[stained][None])[0]
        values = {"mean": lab.mean(axis=0), "std": lab.std(axis=0)}
    else:
        stains = _stains(density[stained])
        if stains[0] @ stains[1] > _ONE_STAIN:
            return None
        strengths = density[stained] @ np.linalg.pinv(stains.T).T
        values = {
            "stains": stains.ravel(),
            "strongest": np.percentile(strengths, _PERCENT[1], axis=0),
        }
    # Fewer digits than float noise between machines.
    rounded = {name: tuple(np.round(value, 6).tolist()) for name, value in values.items()}
    spread = rounded["std" if method == "reinhard" else "strongest"]
    return StainStats(method, rounded) if min(spread) > 0 else None


def average_stain(found: Sequence[StainStats]) -> StainStats:
    """The stain of an average slide: the median of every value."""
    method = found[0].method
    values = {
        name: np.median([stats.array(name) for stats in found], axis=0) for name in found[0].values
    }
    if method == "macenko":
        stains = values["stains"].reshape(2, 3)
        values["stains"] = (stains / np.linalg.norm(stains, axis=1, keepdims=True)).ravel()
    return StainStats(method, {name: tuple(value.tolist()) for name, value in values.items()})


def sample_stained(slide: Slide, thumbnail: Thumbnail, model_mpp: float) -> Pixels:
    """Pixels of stained places all over a slide, (n, 3) uint8, the same every time.

    Neither the tissue that was asked for nor an ROI matters, so that neither changes a region.

    Args:
        slide: Open.
        thumbnail: Of the slide.
        model_mpp: um/px at which pixels are read.
    """
    seen = thumbnail.valid
    if thumbnail.unreadable is not None:
        seen = seen & ~thumbnail.unreadable
    rows, cols = np.nonzero((_DENSITY[thumbnail.rgb] > _STAINED).all(axis=2) & seen)
    if not len(rows):
        return np.empty((0, 3), np.uint8)
    picks = np.unique(np.linspace(0, len(rows) - 1, _N_PLACES).round().astype(np.int64))
    mpp = slide.require_mpp()
    side_x, side_y = (_PLACE_PX * model_mpp / own for own in (mpp.x, mpp.y))
    parts = []
    for row, col in zip(rows[picks], cols[picks], strict=True):
        x0_px = (col + 0.5) * thumbnail.scale_x - side_x / 2
        y0_px = (row + 0.5) * thumbnail.scale_y - side_y / 2
        try:
            parts.append(slide.read(x0_px, y0_px, _PLACE_PX, _PLACE_PX, model_mpp).reshape(-1, 3))
        except RegionReadError:
            continue
    return np.concatenate(parts) if parts else np.empty((0, 3), np.uint8)


def _stains(density: Floats) -> Floats:
    """(2, 3) directions of the two stains, haematoxylin first, from (n, 3) densities."""
    _, directions = np.linalg.eigh(np.cov(density.T))
    plane = directions[:, :0:-1]
    plane = plane * np.where(plane.sum(axis=0) < 0, -1.0, 1.0)
    along = density @ plane
    angles = np.percentile(np.arctan2(along[:, 1], along[:, 0]), _PERCENT)
    ends = np.stack([np.cos(angles), np.sin(angles)], axis=1) @ plane.T
    ends = np.maximum(ends, 0.0)
    ends /= np.linalg.norm(ends, axis=1, keepdims=True)
    # Haematoxylin takes away more of the red.
    return np.asarray(ends if ends[0, 0] > ends[1, 0] else ends[::-1])


def _bytes(values: npt.NDArray[np.floating]) -> Pixels:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)
