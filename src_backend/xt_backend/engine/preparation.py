"""From a slide file to the regions that will be encoded: mpp, tissue, ROI, lattice, cells."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from xt_backend.config import CommonOptions
from xt_backend.errors import AnnotationError, InputNotFoundError, UnsupportedSlideError
from xt_backend.slides import (
    Lattice,
    Slide,
    SlideMpp,
    StainNormaliser,
    StainStats,
    Thumbnail,
    Tissue,
    check_scale,
    everything,
    find_tissue,
    measure_stain,
    open_slide,
    read_area,
    read_shapes,
    sample_stained,
    tissue_from_shapes,
)

if TYPE_CHECKING:
    from xt_backend.model import StainInfo

__all__ = ["THUMBNAIL_PX", "Overview", "Prepared", "lattice_of", "prepare", "size_warning"]

THUMBNAIL_PX = 2048
"""Long side of the thumbnail that tissue is looked for on."""


@dataclass(frozen=True)
class Overview:
    """A slide on one small picture.

    Attributes:
        thumbnail: The picture that tissue was looked for on.
        tissue: What was found, or given by hand.
    """

    thumbnail: Thumbnail
    tissue: Tissue


@dataclass
class Prepared:
    """An open slide with the regions chosen on it.

    Attributes:
        slide: Open; the holder closes it.
        mpp: Pixel size in use.
        tissue: Where tissue is, and why it was judged so.
        lattice: All region places.
        cells: (n, 2) int32 (col, row) of the selected ones, raster order.
        notes: What the user should know.
        warnings: Those of the notes that put a prediction in doubt.
        normaliser: Brings the slide's stain to that of the model; None leaves it.
    """

    slide: Slide
    mpp: SlideMpp
    thumbnail: Thumbnail
    tissue: Tissue
    lattice: Lattice
    cells: npt.NDArray[np.int32]
    notes: list[str]
    warnings: list[str] = field(default_factory=list)
    normaliser: StainNormaliser | None = None

    @property
    def overview(self) -> Overview:
        """Picture and tissue."""
        return Overview(self.thumbnail, self.tissue)

    def warn(self, text: str) -> None:
        """Take a warning."""
        self.notes.append(text)
        self.warnings.append(text)

    def tissue_shares(self) -> npt.NDArray[np.float32]:
        """(n,) share of each selected region's area that is tissue, 0 to 1."""
        tissue = self.tissue
        return self.lattice.tissue_shares(tissue.mask, tissue.scale_x, tissue.scale_y, self.cells)


def prepare(
    path: Path,
    model_mpp: float,
    region_px: int,
    options: CommonOptions,
    stain: StainInfo | None = None,
) -> Prepared:
    """Open a slide and choose its regions.

    Args:
        path: Slide file or DICOM folder.
        model_mpp: Pixel size at which regions are read, um/px.
        region_px: Side of a region at `model_mpp`.
        options: Pixel size, tissue, ROI and limits.
        stain: To which the slide is brought; None leaves it as it is.

    Raises:
        SlideError: The slide cannot be opened, has no usable pixel size, is too coarse, too large
            or no bright-field image.
        AnnotationError: The ROI or tissue file cannot be used.
    """
    slide = open_slide(path, options.slide_mpp, accept_objective_mpp=options.accept_objective_mpp)
    try:
        prepared = _choose(slide, model_mpp, region_px, options)
        if stain is not None:
            _add_normaliser(prepared, stain, model_mpp)
        return prepared
    except BaseException:
        slide.close()
        raise


def _choose(slide: Slide, model_mpp: float, region_px: int, options: CommonOptions) -> Prepared:
    info = slide.info
    pixels = info.width_px * info.height_px
    if pixels > options.max_pixels:
        raise UnsupportedSlideError(
            f"{info.name} declares {info.width_px} x {info.height_px} px, over the limit of "
            f"{options.max_pixels} pixels",
            "Raise --max-pixels if the slide really is that large",
        )
    mpp = slide.require_mpp()
    check_scale(mpp.value, model_mpp, options.allow_upsample)
    notes = []
    thumbnail = slide.thumbnail(THUMBNAIL_PX)
    tissue = _tissue(slide, thumbnail, mpp, options.tissue)
    if tissue.kind != "partial":
        notes.append(tissue.reason)
    lattice = lattice_of(slide, model_mpp, region_px, options.stride_px)
    roi = _roi(slide, options.roi)
    cells = lattice.select(tissue.mask, tissue.scale_x, tissue.scale_y, roi)
    if roi is not None and not len(cells):
        off = not roi.intersects(shapely.box(*_bounds_box(slide)))
        what = "lies outside the slide; was it drawn on another one?" if off else "holds no tissue"
        notes.append(f"the region of interest {what}")
    prepared = Prepared(slide, mpp, thumbnail, tissue, lattice, cells, notes)
    if slide.missing:
        prepared.warn(slide.missing)
    if warning := size_warning(lattice, cells):
        prepared.warn(warning)
    return prepared


def _add_normaliser(prepared: Prepared, stain: StainInfo, model_mpp: float) -> None:
    target = StainStats(stain.method, stain.target)
    pixels = sample_stained(prepared.slide, prepared.thumbnail, model_mpp)
    own = measure_stain(stain.method, pixels)
    if own is None:
        prepared.warn("too little of the slide is stained to normalise its stain")
    prepared.normaliser = StainNormaliser(own, target)


def lattice_of(
    slide: Slide, model_mpp: float, region_px: int, stride_px: int | None = None
) -> Lattice:
    """All region places of a slide.

    Args:
        slide: Its pixel size is known.
        model_mpp: Pixel size at which regions are read, um/px.
        region_px: Side of a region at `model_mpp`.
        stride_px: Step between regions at `model_mpp`; None is the region's size.

    Raises:
        SlideMppError: The slide's pixel size is unknown.
    """
    mpp = slide.require_mpp()
    return Lattice.for_bounds(slide.info.bounds_px, (mpp.x, mpp.y), model_mpp, region_px, stride_px)


def size_warning(lattice: Lattice, cells: npt.NDArray[np.int32]) -> str:
    """What to know of a slide that is smaller than one region; empty for all others.

    Args:
        lattice: Of the slide.
        cells: (n, 2) int32 (col, row) of the selected regions.
    """
    region_um = lattice.region_px * lattice.model_mpp
    width_um, height_um = np.multiply(lattice.extent_px, lattice.slide_mpp)
    # Less than a pixel is how a crop of just one region is rounded.
    if min(width_um, height_um) > region_um - lattice.model_mpp or not len(cells):
        return ""
    padding = 1 - float(lattice.inside_shares(cells).mean())
    return (
        f"the slide, {width_um:.3g} x {height_um:.3g} um, is smaller than a region of the model, "
        f"{region_um:.3g} x {region_um:.3g} um: {padding:.1%} of what the model sees is padding, "
        "so that its prediction means little; score a larger piece of the slide, or use a model "
        "with smaller regions"
    )


def _tissue(slide: Slide, thumbnail: Thumbnail, mpp: SlideMpp, asked: str) -> Tissue:
    info = slide.info
    if asked == "auto":
        return find_tissue(thumbnail, slide_mpp=mpp.value)
    if asked == "all":
        return everything(info.width_px, info.height_px, info.bounds_px)
    path = Path(asked)
    if not path.is_file():
        raise InputNotFoundError(
            f"There is no tissue file {path.name}", "Use auto, all, or a GeoJSON file"
        )
    shapes = read_shapes(path, offset_px=slide.info.bounds_px[:2])
    return tissue_from_shapes(shapes, info.width_px, info.height_px)


def _bounds_box(slide: Slide) -> tuple[int, int, int, int]:
    x0, y0, width, height = slide.info.bounds_px
    return x0, y0, x0 + width, y0 + height


def _roi(slide: Slide, asked: Path | dict[str, object] | None) -> BaseGeometry | None:
    if asked is None:
        return None
    if isinstance(asked, dict):
        try:
            geometry = shapely.from_geojson(_as_json(asked))
        except (shapely.errors.GEOSException, TypeError, ValueError) as error:
            raise AnnotationError(
                f"The region of interest is no GeoJSON geometry: {error}",
                "Draw it again, or give a GeoJSON file",
            ) from error
        if not geometry.is_valid:
            geometry = shapely.make_valid(geometry)
    else:
        if not asked.is_file():
            raise InputNotFoundError(f"There is no ROI file {asked.name}", "Check --roi")
        geometry = read_area(asked, offset_px=slide.info.bounds_px[:2])
    if geometry.is_empty or geometry.area == 0:
        raise AnnotationError("The region of interest has no area", "Draw a closed shape")
    return geometry


def _as_json(geometry: dict[str, object]) -> str:
    import json

    return json.dumps(geometry)
