"""Plain pictures, perhaps with masks, as slides with annotations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from xt_backend.errors import AnnotationError, InputNotFoundError, UsageError
from xt_backend.publishing import make_folder, publish, publish_bytes
from xt_backend.samples.mask_outlines import mask_geojson, read_mask
from xt_backend.samples.pyramid import write_pyramid_array

__all__ = ["PICTURE_SUFFIXES", "Imported", "import_pictures"]

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")

_QUALITY = 95
"""Of the slide's JPEG: hardly anything is lost again of pictures that were JPEG before."""


@dataclass(frozen=True)
class Imported:
    """The files of one picture.

    Attributes:
        slide: Pyramidal TIFF with the picture's pixels.
        annotations: QuPath GeoJSON; None without a mask.
    """

    slide: Path
    annotations: Path | None


def import_pictures(
    pictures: Path,
    out: Path,
    mpp: float,
    *,
    masks: Path | None = None,
    classes: Mapping[int, str] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Imported]:
    """Write a slide for every picture of a folder, and annotations where there are masks.

    Args:
        pictures: Folder.
        out: Folder; made if missing. Files of the same names are replaced.
        mpp: Pixel size of all of them, um/px.
        masks: Folder with one grey or paletted picture for each, of the same stem.
        classes: Class by pixel value of the masks; "" for pixels without annotation.
        progress: Told how many of how many pictures are done.

    Raises:
        InputNotFoundError: A folder does not exist.
        UsageError: No pictures, or several of one stem; masks without classes or the reverse.
        AnnotationError: A picture cannot be read, or a mask is missing or does not fit.
        OutputError: The files cannot be written.
    """
    if (masks is None) != (classes is None):
        raise UsageError(
            "Masks and the classes of their pixel values belong together",
            "Give both, e.g. --masks masks/ --classes 0=other,255=tumour",
        )
    found = _pictures(pictures)
    if not found:
        raise UsageError(
            f"{pictures} holds no pictures", f"They end in {', '.join(PICTURE_SUFFIXES)}"
        )
    mask_of = _pictures(masks) if masks is not None else {}
    if masks is not None and (missing := sorted(set(found) - set(mask_of))):
        raise AnnotationError(
            f"{len(missing)} of {len(found)} pictures have no mask: {', '.join(missing[:20])}",
            "Each needs a file of the same name in the folder of masks",
        )
    make_folder(out)
    made = []
    for done, (stem, path) in enumerate(found.items()):
        progress(done, len(found))
        rgb = _read_rgb(path)
        annotations = None
        if classes is not None:
            mask = mask_of[stem]
            size_px = (rgb.shape[1], rgb.shape[0])
            data = mask_geojson(read_mask(mask), classes, size_px, mask.name)
            annotations = out / f"{stem}.geojson"
            publish_bytes(annotations, data)
        slide = out / f"{stem}.tiff"
        with publish(slide) as partial:
            write_pyramid_array(partial, rgb, mpp=(mpp, mpp), quality=_QUALITY)
        made.append(Imported(slide, annotations))
    progress(len(found), len(found))
    return made


def _pictures(folder: Path) -> dict[str, Path]:
    """Pictures directly in a folder, by stem."""
    if not folder.is_dir():
        raise InputNotFoundError(f"There is no folder {folder}", "Check the path")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in PICTURE_SUFFIXES or path.name.startswith("."):
            continue
        if (other := found.setdefault(path.stem, path)) != path:
            raise UsageError(
                f"{other.name} and {path.name} have the same stem", "Move one of them elsewhere"
            )
    return found


def _read_rgb(path: Path) -> npt.NDArray[np.uint8]:
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, Image.DecompressionBombError) as error:
        raise AnnotationError(
            f"{path.name} cannot be read as a picture: {error}",
            "Move it elsewhere; very large pictures should be slides already",
        ) from error
