"""Pictures within a page, as data URIs."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from xt_backend.keys import OverlayText
from xt_backend.outputs.legend import Found
from xt_backend.outputs.mask_tiff import SlideMask
from xt_backend.outputs.overlay import overlay_image, paint_points
from xt_backend.outputs.palette import rgb
from xt_backend.outputs.slide_frame import SlideFrame
from xt_backend.store.points import Points
from xt_backend.store.score_map import ScoreMap

__all__ = ["mask_uri", "overlay_picture", "picture_uri", "thumbnail_uri"]

_QUALITY, _THUMBNAIL_QUALITY = 85, 72
_THUMBNAIL_PX = 220
_MASK_PX = 1024
_PAPER = 245
_PAPER_PX = 800


def overlay_picture(path: Path, score_map: ScoreMap, found: Found = None) -> Image.Image:
    """The overlay of a slide; without its file, the same on grey paper.

    Args:
        path: ``<id>.overlay.png``.
        score_map: Of the slide.
        found: Its mask or its points.

    Returns:
        RGB, with the text `OverlayText.PICTURE` in its `info` where that is known.
    """
    try:
        with Image.open(path) as image:
            image.load()
            picture = image.convert("RGB")
            picture.info = dict(image.info)
            if isinstance(found, Points) and OverlayText.POINTS not in picture.info:
                _add_points(picture, score_map, found)
            return picture
    # What Pillow raises for files that are damaged.
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError):
        scale = max(1.0, max(score_map.width_px, score_map.height_px) / _PAPER_PX)
        width, height = (
            max(1, round(side / scale)) for side in (score_map.width_px, score_map.height_px)
        )
        paper = np.full((height, width, 3), _PAPER, np.uint8)
        scales = (score_map.width_px / width, score_map.height_px / height)
        return Image.fromarray(overlay_image(score_map, paper, *scales, found))


def picture_uri(picture: Image.Image) -> str:
    """A whole picture as JPEG.

    Args:
        picture: RGB.
    """
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


def _add_points(picture: Image.Image, score_map: ScoreMap, points: Points) -> None:
    """Draw points on a picture that was made without them, where it says where it lies."""
    box = _box(picture)
    if box is None:
        return
    x0_px, y0_px, width_px, height_px = score_map.bounds_px
    pixels = np.asarray(picture.crop((0, 0, *box)))
    frame = SlideFrame(pixels, x0_px, y0_px, width_px / box[0], height_px / box[1])
    picture.paste(Image.fromarray(paint_points(frame, score_map, points)), (0, 0))


def _uri(picture: Image.Image, kind: str, **options: Any) -> str:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
