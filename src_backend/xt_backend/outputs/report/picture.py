"""Pictures within a page, as data URIs."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, UnidentifiedImageError

from xt_backend.keys import OverlayText
from xt_backend.outputs.mask_tiff import SlideMask
from xt_backend.outputs.overlay import overlay_image
from xt_backend.outputs.palette import rgb
from xt_backend.outputs.points import point_kinds
from xt_backend.store.points import Points
from xt_backend.store.score_map import ScoreMap

__all__ = ["mask_uri", "overlay_picture", "picture_uri", "thumbnail_uri"]

_QUALITY, _THUMBNAIL_QUALITY = 85, 72
_THUMBNAIL_PX = 220
_MASK_PX = 1024
_PAPER = 245
_PAPER_PX = 800
_DOT_RADIUS_PX = 4
_MOST_DOTS = 50_000


def overlay_picture(path: Path, score_map: ScoreMap) -> Image.Image:
    """The overlay of a slide; without its file, the classes on grey paper.

    Args:
        path: ``<id>.overlay.png``.
        score_map: Of the slide.

    Returns:
        RGB, with the text `OverlayText.PICTURE` in its `info` where that is known.
    """
    try:
        with Image.open(path) as image:
            image.load()
            picture = image.convert("RGB")
            picture.info = dict(image.info)
            return picture
    # What Pillow raises for files that are damaged.
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError):
        scale = max(1.0, max(score_map.width_px, score_map.height_px) / _PAPER_PX)
        width, height = (
            max(1, round(side / scale)) for side in (score_map.width_px, score_map.height_px)
        )
        paper = np.full((height, width, 3), _PAPER, np.uint8)
        scales = (score_map.width_px / width, score_map.height_px / height)
        return Image.fromarray(overlay_image(score_map, paper, *scales))


def picture_uri(
    picture: Image.Image, score_map: ScoreMap | None = None, points: Points | None = None
) -> str:
    """A whole picture as JPEG.

    Args:
        picture: RGB.
        score_map: Of the slide that it shows; needed for points.
        points: Drawn on it in the colours of their kinds, where the picture says where it lies.
    """
    box = _box(picture)
    if score_map is not None and points is not None and box is not None:
        picture = picture.copy()
        _draw(picture, box, score_map, points)
    return _uri(picture, "JPEG", quality=_QUALITY, optimize=True)


def thumbnail_uri(picture: Image.Image) -> str:
    """The slide within an overlay, small, as JPEG."""
    box = _box(picture)
    small = picture if box is None else picture.crop((0, 0, *box))
    small = small.convert("RGB")  # a copy, without the text
    small.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX), Image.Resampling.LANCZOS)
    return _uri(small, "JPEG", quality=_THUMBNAIL_QUALITY, optimize=True)


def mask_uri(mask: SlideMask) -> str:
    """A mask in the colours of its classes, white where there is none, as PNG."""
    level = next((m for m in mask.levels if max(m.shape) <= _MASK_PX), mask.levels[-1])
    image = Image.fromarray(np.ascontiguousarray(level))
    image.putpalette([255, 255, 255, *(part for color in mask.colors for part in rgb(color))])
    return _uri(image, "PNG", optimize=True)


def _box(picture: Image.Image) -> tuple[int, int] | None:
    """Size of the slide's picture in the corner of an overlay."""
    try:
        width, height = map(int, str(picture.info[OverlayText.PICTURE]).split(","))
    except (KeyError, ValueError):
        return None
    fits = 0 < width <= picture.width and 0 < height <= picture.height
    return (width, height) if fits else None


def _draw(picture: Image.Image, box: tuple[int, int], score_map: ScoreMap, points: Points) -> None:
    x0_px, y0_px, width_px, height_px = score_map.bounds_px
    strongest = np.argsort(-points.score, kind="stable")[:_MOST_DOTS]
    shown = points.take(strongest)
    places: npt.NDArray[np.float64] = np.stack(
        [
            (shown.x_px - x0_px) * box[0] / width_px,
            (shown.y_px - y0_px) * box[1] / height_px,
        ],
        axis=1,
    )
    colors = score_map.colors[-len(point_kinds(score_map)) :]
    draw = ImageDraw.Draw(picture)
    for (x, y), kind in zip(places.tolist(), shown.kind.tolist(), strict=True):
        draw.circle((x, y), _DOT_RADIUS_PX, fill=rgb(colors[kind]), outline=(255, 255, 255))


def _uri(picture: Image.Image, kind: str, **options: Any) -> str:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
