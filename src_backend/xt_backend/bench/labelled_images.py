"""Published sets of labelled images as fields of features."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from xt_backend.engine import BatchEncoder
from xt_backend.training.annotations import AnnotatedSlide
from xt_backend.training.labels import LabelledSlide
from xt_backend.training.truth import Source

__all__ = ["SETS", "ImageSet", "LabelledImage", "encode", "find_sets"]

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff"})
MASK_ABOVE = 127
"""Mask values above it are tumour."""


@dataclass(frozen=True)
class LabelledImage:
    """An image and what is known about it.

    Attributes:
        path: Image file.
        mpp: Its pixel size, um/px.
        fold: Images of one fold are held out together.
        label: Of the whole image; None where there is a mask.
        mask: File of the same size, tumour above 127; None where there is a label.
    """

    path: Path
    mpp: float
    fold: int
    label: str | None = None
    mask: Path | None = None


@dataclass(frozen=True)
class ImageSet:
    """How one comparison cuts its images.

    Attributes:
        name: For tables.
        about: What it is, as a sentence or two.
        task: ``slide`` (one label an image) or ``region`` (by mask).
        model_mpp: Pixel size of the regions, um/px.
        region_px: Their side.
        find: The images of a folder that the user has; empty where they are not there.
    """

    name: str
    about: str
    task: str
    model_mpp: float
    region_px: int
    find: Callable[[Path], list[LabelledImage]]


@dataclass(frozen=True)
class EncodedImage:
    """The regions of one image.

    Attributes:
        source: The image, with its mask or label.
        fold: As of its image.
        features: (N, k*k, D) float16.
        positions_um: (N, 2) float64 centres.
        shares: (N, C) class shares of the regions, or (1, C) of the image.
    """

    source: Source
    fold: int
    features: npt.NDArray[np.float16]
    positions_um: npt.NDArray[np.float64]
    shares: npt.NDArray[np.float32]


def _source(one: LabelledImage) -> Source:
    if one.mask is not None:
        return AnnotatedSlide(one.path, one.mask)
    return LabelledSlide(one.path, one.label or "")


def classes_of(images: Sequence[LabelledImage]) -> tuple[str, ...]:
    """Labels, sorted; or rest and tumour where there are masks."""
    labels = sorted({one.label for one in images if one.label is not None})
    return tuple(labels) or ("rest", "tumour")


def encode(
    images: Sequence[LabelledImage],
    how: ImageSet,
    encoder: BatchEncoder,
    tell: Callable[[str], None],
) -> list[EncodedImage]:
    """Scale images to the model's pixel size, cut them into whole regions and encode these."""
    classes = classes_of(images)
    encoded = []
    for number, one in enumerate(images, start=1):
        tell(f"{how.name}, image {number} of {len(images)}")
        scale = one.mpp / how.model_mpp
        with Image.open(one.path) as file:
            pixels = _scaled(file.convert("RGB"), scale)
        regions, cols = _regions(pixels, how.region_px)
        if one.mask is None:
            shares = np.zeros((1, len(classes)), np.float32)
            shares[0, classes.index(one.label or "")] = 1.0
        else:
            with Image.open(one.mask) as file:
                marked = file.convert("L").point(lambda value: 255 * (value > MASK_ABOVE))
            parts, _ = _regions(_scaled(marked, scale)[..., None], how.region_px)
            tumour = parts.mean(axis=(1, 2, 3)) / 255
            shares = np.stack([1 - tumour, tumour], axis=1).astype(np.float32)
        places = np.arange(len(regions))
        cells = np.stack([places % cols, places // cols], axis=1) + 0.5
        encoded.append(
            EncodedImage(
                source=_source(one),
                fold=one.fold,
                features=encoder.encode(regions),
                positions_um=cells.astype(np.float64) * (how.region_px * how.model_mpp),
                shares=shares,
            )
        )
    return encoded


def _scaled(image: Image.Image, scale: float) -> npt.NDArray[np.uint8]:
    size = (round(image.width * scale), round(image.height * scale))
    # A box filter keeps the shares of a mask.
    return np.asarray(image if size == image.size else image.resize(size, Image.Resampling.BOX))


def _regions(pixels: npt.NDArray[np.uint8], side: int) -> tuple[npt.NDArray[np.uint8], int]:
    """(N, side, side, channels) in raster order, without what is left at the ends; columns."""
    rows, cols = pixels.shape[0] // side, pixels.shape[1] // side
    cut = pixels[: rows * side, : cols * side].reshape(rows, side, cols, side, -1)
    return np.array(cut.swapaxes(1, 2).reshape(rows * cols, side, side, -1)), cols


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def _tiles(data: Path) -> list[LabelledImage]:
    """Tiles in one folder a class; the n-th of every class is held out together."""
    folder = data / "crc-val-he-224"
    kinds = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return [
        LabelledImage(path, 0.5, number % 7, label=kind.name)
        for kind in kinds
        for number, path in enumerate(_files(kind))
    ]


def _masked(data: Path) -> list[LabelledImage]:
    """ROIs one by one, and patches in runs: neighbouring numbers are likely from one slide."""
    found = []
    fold = 0
    for name, mpp, run in (("bcss-roi", 0.25, 1), ("camelyon-512", 1.0, 5)):
        number = 0
        for path in _files(data / name / "images"):
            mask = data / name / "masks" / f"{path.stem}.png"
            if mask.is_file():
                found.append(LabelledImage(path, mpp, fold + number // run, mask=mask))
                number += 1
        fold += -(-number // run)
    return found


SETS = (
    ImageSet(
        "tumour",
        "Breast ROIs of BCSS (`bcss-roi`, 0.25 um/px) and lymph-node patches of CAMELYON "
        "(`camelyon-512`, about 1 um/px), regions of 64 um labelled by the share of tumour. Each "
        "ROI, and each run of five neighbouring patches, is held out once.",
        "region",
        1.0,
        64,
        _masked,
    ),
    ImageSet(
        "tissue",
        "Tiles of colorectal tissue of seven classes (`crc-val-he-224`, 0.5 um/px), one label a "
        "tile, regions of 56 um. The n-th tile of every class is held out together.",
        "slide",
        0.5,
        112,
        _tiles,
    ),
)


def find_sets(data: Path) -> dict[str, list[LabelledImage]]:
    """The images of each set that the folder holds, by the set's name."""
    return {one.name: images for one in SETS if (images := one.find(data))}
