"""From amounts of stain to colours, and how labs and scanners differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xt_backend.samples.noise import Float

__all__ = ["Stain", "colour", "draw_stain"]

_HAEMATOXYLIN = np.array([0.60, 0.72, 0.34])
_EOSIN = np.array([0.13, 0.86, 0.49])


@dataclass(frozen=True)
class Stain:
    """How one lab stains and one scanner sees.

    Args:
        vectors: (2, 3) float32 unit vectors of optical density (natural log) of haematoxylin
            and eosin in red, green and blue.
        gains: Strength of the two stains.
        white: (3,) float32, grey value of empty glass, 0 to 255.
        noise: Standard deviation of the camera noise, grey values.
        blur_px: Standard deviation of the optical blur.
    """

    vectors: Float
    gains: tuple[float, float]
    white: Float
    noise: float
    blur_px: float


def draw_stain(rng: np.random.Generator) -> Stain:
    """The stain and scanner of one slide."""
    vectors = np.stack([_HAEMATOXYLIN, _EOSIN])
    vectors = vectors + rng.normal(0, [[0.035], [0.04]], (2, 3))
    vectors = np.clip(vectors, 0.03, None)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    balance = rng.uniform(238, 247) + rng.normal(0, 1.8, 3)
    return Stain(
        vectors=vectors.astype(np.float32),
        gains=(float(np.exp(rng.normal(0, 0.14))), float(np.exp(rng.normal(0, 0.17)))),
        white=np.clip(balance, 228, 252).astype(np.float32),
        noise=float(rng.uniform(1.0, 1.8)),
        blur_px=float(rng.uniform(0.65, 0.9)),
    )


def colour(
    stain: Stain, haematoxylin: Float, eosin: Float, light: Float, camera: Float
) -> npt.NDArray[np.uint8]:
    """Mix the stains by the law of Beer and Lambert.

    Args:
        stain: Colours and strengths.
        haematoxylin: (H, W) amount.
        eosin: (H, W) amount.
        light: (H, W) illumination, 1 is even.
        camera: (H, W, 3) unit-variance noise.

    Returns:
        (H, W, 3) uint8.
    """
    out = np.empty((*haematoxylin.shape, 3), np.uint8)
    for c in range(3):
        density = haematoxylin * np.float32(-stain.gains[0] * stain.vectors[0, c])
        density += eosin * np.float32(-stain.gains[1] * stain.vectors[1, c])
        np.exp(density, out=density)
        density *= light
        density *= stain.white[c]
        density += camera[..., c] * np.float32(stain.noise)
        np.clip(density, 0, 255, out=density)
        out[..., c] = np.rint(density, out=density)
    return out
