"""What a slide file holds besides the slide: pictures of its label, and its colour profile.

Pictures of the label often show a name or a barcode. They are read for the eyes of whoever asks,
and nothing that the program writes holds them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openslide
from PIL import Image, ImageCms

from xt_backend.errors import UnsupportedSlideError
from xt_backend.slides.handle import scrub
from xt_backend.slides.opening import open_handle

__all__ = ["SideImages", "read_side_images", "to_screen_colours"]

_MOST_PX = 50_000_000

Pixels = npt.NDArray[np.uint8]
SideImages = dict[str, Pixels]
"""(h, w, 3) uint8 by name, such as ``label``, ``macro`` and ``thumbnail``."""


def _open(path: Path) -> openslide.OpenSlide:
    handle, file = open_handle(path)  # which says what is wrong with a file
    handle.close()
    return openslide.OpenSlide(file)


def read_side_images(path: Path) -> SideImages:
    """The pictures that lie beside the slide in its file; those that cannot be read are left out.

    Args:
        path: Slide file or DICOM folder.

    Raises:
        SlideOpenError: The slide cannot be opened.
    """
    images: SideImages = {}
    with _open(path) as slide:
        for name in sorted(slide.associated_images):
            size = [
                int(slide.properties.get(f"openslide.associated.{name}.{side}", 0))
                for side in ("width", "height")
            ]
            if size[0] * size[1] > _MOST_PX:
                continue
            try:
                image = slide.associated_images[name]
            except openslide.OpenSlideError:
                # The handle is spoilt for what comes after.
                return images
            white = Image.new("RGBA", image.size, "white")
            images[name] = np.asarray(Image.alpha_composite(white, image.convert("RGBA")))[..., :3]
    return images


def to_screen_colours(path: Path) -> Callable[[Pixels], Pixels] | None:
    """What brings a slide's colours to those of a screen (sRGB), by the scanner's ICC profile.

    For looking only: models see the pixels as they are in the file.

    Args:
        path: Slide file or DICOM folder.

    Returns:
        Function of (h, w, 3) uint8, to be called from one thread at a time; None where the file
        holds no profile.

    Raises:
        SlideOpenError: The slide cannot be opened.
        UnsupportedSlideError: The profile cannot be used.
    """
    with _open(path) as slide:
        try:
            profile = slide.color_profile
            if profile is None:
                return None
            transform = ImageCms.buildTransform(
                profile, ImageCms.createProfile("sRGB"), "RGB", "RGB"
            )
        except (OSError, ImageCms.PyCMSError, openslide.OpenSlideError) as error:
            raise UnsupportedSlideError(
                f"the slide's colour profile cannot be used: {scrub(str(error), path)}",
                "Look at the slide in its own colours",
            ) from None

    def apply(pixels: Pixels) -> Pixels:
        return np.asarray(transform.apply(Image.fromarray(pixels)), np.uint8)

    return apply
