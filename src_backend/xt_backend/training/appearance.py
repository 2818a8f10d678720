"""Random changes of how a slide looks: its turn, its colours, its stains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

__all__ = ["Appearance", "turn_maps", "turn_pixels"]

Map = TypeVar("Map", bound=np.generic)

Pixels = npt.NDArray[np.uint8]

MID_GREY = 127.5

_GREY = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Appearance:
    """One way in which a slide may look; the same for all of its regions.

    Attributes:
        way: Flips and turns, as of `augment.turn`.
        brightness: Factor of the light.
        contrast: Factor of the distance to mid-grey.
        saturation: Factor of the distance to the pixel's own grey.
        stains: Factors of haematoxylin, eosin and DAB.
        blur: Standard deviation of the blur, px.
    """

    way: int = 0
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    stains: tuple[float, float, float] = (1.0, 1.0, 1.0)
    blur: float = 0.0

    @classmethod
    def draw(
        cls,
        rng: np.random.Generator,
        *,
        turns: bool,
        colour: float,
        stain: float,
        blur: float = 0.0,
    ) -> Appearance:
        """Draw one.

        Args:
            rng: Gives the same number of draws whatever is asked for.
            turns: Whether to flip and turn.
            colour: Largest change of brightness, contrast and saturation, as a share.
            stain: Largest change of each stain, as a share.
            blur: Largest standard deviation of the blur, px; every other slide stays sharp.
        """
        way = int(rng.integers(8))
        changes = rng.uniform(-1.0, 1.0, 6)
        blurred = max(0.0, rng.uniform(-1.0, 1.0)) * blur
        brightness, contrast, saturation = (1.0 + colour * changes[:3]).tolist()
        h, e, d = (1.0 + stain * changes[3:]).tolist()
        return cls(way if turns else 0, brightness, contrast, saturation, (h, e, d), blurred)

    def __call__(self, pixels: Pixels) -> Pixels:
        """Change (n, R, R, 3) uint8 RGB."""
        pixels = turn_pixels(pixels, self.way)
        if self.blur:
            pixels = _bytes(
                gaussian_filter(pixels.astype(np.float32), (0, self.blur, self.blur, 0))
            )
        if self.stains != (1.0, 1.0, 1.0) and pixels.size:
            from skimage.color import hed2rgb, rgb2hed

            stains = rgb2hed(pixels).astype(np.float32) * np.array(self.stains, np.float32)
            pixels = _bytes(np.asarray(hed2rgb(stains), np.float32) * 255)
        if (self.brightness, self.contrast, self.saturation) == (1.0, 1.0, 1.0):
            return pixels
        light: npt.NDArray[np.floating] = pixels.astype(np.float32)
        grey = (light @ _GREY)[..., None]
        light = grey + np.float32(self.saturation) * (light - grey)
        mid_grey = np.float32(MID_GREY)
        light = mid_grey + np.float32(self.contrast) * (light - mid_grey)
        return _bytes(light * np.float32(self.brightness))


def turn_pixels(pixels: Pixels, way: int) -> Pixels:
    """Flip or turn (n, R, R, 3) regions, each in its own place, as `augment.turn` does fields."""
    pixels = pixels[:, :: -1 if way & 2 else 1, :: -1 if way & 1 else 1]
    return np.ascontiguousarray(pixels.swapaxes(1, 2) if way & 4 else pixels)


def turn_maps(maps: npt.NDArray[Map], way: int) -> npt.NDArray[Map]:
    """Flip or turn maps (..., h, h), as `turn_pixels` does pixels."""
    maps = maps[..., :: -1 if way & 2 else 1, :: -1 if way & 1 else 1]
    return np.ascontiguousarray(maps.swapaxes(-1, -2) if way & 4 else maps)


def _bytes(values: npt.NDArray[np.floating]) -> Pixels:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)
