"""Points of a detection model on a small picture of the slide."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from xt_backend.outputs.palette import rgb
from xt_backend.outputs.points import point_kinds
from xt_backend.store.points import Points
from xt_backend.store.score_map import ScoreMap

__all__ = ["dot_swatch", "draw_dots"]

_RIM = (255, 255, 255)
_INK = (30, 30, 30)
_MOST_DOTS = 50_000
_LARGEST_SHARE = 1 / 160
"""Radius of a dot, as a share of the picture's longer side."""
_LEAST_RADIUS_PX = 1.5
_MOST_COVERED = 0.2
"""Share of the picture that dots may cover; more of them are drawn smaller."""

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


def draw_dots(
    picture: Pixels, score_map: ScoreMap, points: Points, x_px: Floats, y_px: Floats
) -> Pixels:
    """The picture with a dot for each point, in the colour of its kind and with its shape.

    The weakest are drawn first. Of more than 50,000 points the strongest are drawn.

    Args:
        picture: (h, w, 3) uint8.
        score_map: Of the same run.
        points: All of the slide.
        x_px: (n,) where they lie on the picture, px from its left edge.
        y_px: (n,) px from its top edge.

    Returns:
        (h, w, 3) uint8.
    """
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    radius = _radius(picture, len(points))
    colors = _colors(score_map)
    strongest = np.argsort(-points.score, kind="stable")[:_MOST_DOTS][::-1]
    places = np.stack([x_px, y_px], axis=1)[strongest].tolist()
    for (x, y), kind in zip(places, points.kind[strongest].tolist(), strict=True):
        _dot(draw, x, y, radius, kind, colors[kind])
    return np.asarray(image)


def dot_swatch(score_map: ScoreMap, kind: int, size: int) -> Pixels:
    """How points of a kind are drawn, (size, size, 3) uint8 on white."""
    image = Image.new("RGB", (size, size), (255, 255, 255))
    middle = (size - 1) / 2
    _dot(ImageDraw.Draw(image), middle, middle, 0.36 * size, kind, _colors(score_map)[kind])
    return np.asarray(image)


def _colors(score_map: ScoreMap) -> tuple[str, ...]:
    return score_map.colors[len(score_map.colors) - len(point_kinds(score_map)) :]


def _radius(picture: Pixels, n: int) -> float:
    height, width, _ = map(int, picture.shape)
    largest = max(3.0, max(height, width) * _LARGEST_SHARE)
    roomy = math.sqrt(_MOST_COVERED * height * width / (math.pi * max(1, n)))
    return float(max(_LEAST_RADIUS_PX, min(largest, roomy)))


def _dot(
    draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, kind: int, color: str
) -> None:
    """A shape that tells the kind without its colour, rimmed so that it stands out anywhere."""
    rims = [(radius + 2.0, _INK), (radius + 1.0, _RIM)] if radius >= 3 else []
    for size, fill in (*rims, (radius, rgb(color))):
        corners = (_NO_CORNERS, *_SHAPES)[kind % (len(_SHAPES) + 1)]
        if not corners:
            draw.ellipse((x - size, y - size, x + size, y + size), fill=fill)
        else:
            draw.polygon([(x + size * a, y + size * b) for a, b in corners], fill=fill)


_NO_CORNERS: tuple[tuple[float, float], ...] = ()
_SHAPES: tuple[tuple[tuple[float, float], ...], ...] = (
    ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    ((0.0, -1.25), (1.15, 0.85), (-1.15, 0.85)),
    ((0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)),
)
"""A square, a triangle and a diamond; the first kind is a disc."""
