"""``<id>.mask.ome.tiff``: the class of every pixel, as a tiled pyramidal OME-TIFF."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np
import numpy.typing as npt

from xt_backend.errors import StoreCorruptError, StoreError
from xt_backend.keys import PRODUCT, RESEARCH_USE
from xt_backend.outputs.ome_tiff import place_on_slide, write_ome_tiff
from xt_backend.publishing import scratch
from xt_backend.store.mask_grid import MaskGrid
from xt_backend.store.plain import canonical_json
from xt_backend.store.score_map import ScoreMap

if TYPE_CHECKING:
    from xt_backend.slides import Tissue

__all__ = ["SlideMask", "mask_canvas", "read_mask", "tissue_mask_px", "write_mask"]

Mask = npt.NDArray[np.uint8]

_SMALLEST_LEVEL_PX = 512
_ROWS_AT_ONCE = 1024
_NAMESPACE = uuid5(NAMESPACE_URL, "napari-xt/mask")


@dataclass(frozen=True)
class SlideMask:
    """A mask with what its numbers mean and where it lies.

    Attributes:
        levels: (h, w) uint8 each, finest first; 0 is nothing, else the class's place from 1 on.
        mpp: um per pixel of the finest.
        origin_px: (x, y) of its corner, level-0 px.
        slide_mpp: (x, y) um per level-0 px.
        classes: Names.
        colors: "#rrggbb" of each class.
    """

    levels: tuple[Mask, ...]
    mpp: float
    origin_px: tuple[int, int]
    slide_mpp: tuple[float, float]
    classes: tuple[str, ...]
    colors: tuple[str, ...]

    @classmethod
    def of(cls, canvas: Mask, score_map: ScoreMap) -> SlideMask:
        """The mask of a run; its coarser levels are views of the canvas.

        Args:
            canvas: (height, width) uint8 of the slide's `MaskGrid`.
            score_map: Of the same run.
        """
        return cls(
            tuple(_levels(canvas)),
            MaskGrid(score_map.lattice).mpp,
            score_map.lattice.origin_px,
            score_map.slide_mpp,
            score_map.classes,
            score_map.colors,
        )

    def affine_to_level0(self) -> npt.NDArray[np.float64]:
        """(3, 3) float64, as of `MaskGrid`."""
        (x_px, y_px), (mpp_x, mpp_y) = self.origin_px, self.slide_mpp
        return np.array([[self.mpp / mpp_x, 0, x_px], [0, self.mpp / mpp_y, y_px], [0, 0, 1.0]])


@contextmanager
def mask_canvas(grid: MaskGrid, folder: Path | None = None) -> Iterator[Mask]:
    """A mask of zeros to paste regions into, in a scratch file instead of in memory.

    Args:
        grid: Its size.
        folder: Where the scratch file lies; the system's own place when None.

    Yields:
        (height, width) uint8.

    Raises:
        OutputError: There is no space for the file.
    """
    height, width = grid.shape
    with scratch(folder, height * width) as file:
        # Unmapped when the last array on it is gone; np.memmap would look for a file name.
        yield np.frombuffer(mmap(file.fileno(), height * width), np.uint8).reshape(grid.shape)


def tissue_mask_px(
    canvas: Mask, grid: MaskGrid, tissue: Tissue, classes: tuple[str, ...]
) -> dict[str, int]:
    """Pixels of each class in a mask that have their middle on tissue.

    Args:
        canvas: (height, width) uint8, class index + 1.
        grid: Where its pixels lie.
        tissue: Of the slide.
        classes: Names by class index.
    """
    (step_x, step_y), (x0_px, y0_px) = grid.step_px, grid.lattice.origin_px
    height, width = tissue.mask.shape
    x_px = x0_px + (np.arange(canvas.shape[1]) + 0.5) * step_x
    y_px = y0_px + (np.arange(canvas.shape[0]) + 0.5) * step_y
    columns = (x_px / tissue.scale_x).astype(np.int64).clip(0, width - 1)
    rows = (y_px / tissue.scale_y).astype(np.int64).clip(0, height - 1)
    counts = np.zeros(len(classes) + 1, np.int64)
    for first in range(0, len(canvas), _ROWS_AT_ONCE):
        part = slice(first, first + _ROWS_AT_ONCE)
        on_tissue = tissue.mask[rows[part]][:, columns]
        counts += np.bincount(canvas[part][on_tissue], minlength=len(counts))
    return dict(zip(classes, counts[1:].tolist(), strict=True))


def write_mask(path: Path, canvas: Mask, score_map: ScoreMap) -> None:
    """Publish a mask.

    One byte a pixel: 0 where there is nothing, else the class's place in the model, from 1 on.
    Level n shows every 2^n-th pixel. The physical pixel size is 4 x model mpp. The first pixel
    lies at the corner of the slide's bounds, as images do in QuPath; its place on the slide is
    in ``PositionX``, ``PositionY`` (um) and, with the classes and their colours, in the file's
    map annotation. Written tile by tile; the same mask gives the same bytes.

    Args:
        path: Where it should go.
        canvas: (height, width) uint8 of the slide's `MaskGrid`.
        score_map: Of the same run.

    Raises:
        OutputError: It cannot be written.
    """
    grid = MaskGrid(score_map.lattice)
    write_ome_tiff(path, _levels(canvas), (grid.mpp, grid.mpp), _metadata(score_map, grid))


def _levels(canvas: Mask) -> list[Mask]:
    levels = [canvas]
    while max(levels[-1].shape) > _SMALLEST_LEVEL_PX:
        levels.append(levels[-1][::2, ::2])
    return levels


def _metadata(score_map: ScoreMap, grid: MaskGrid) -> dict[str, Any]:
    run = [score_map.slide_id, score_map.model_sha256, score_map.lattice.to_dict()]
    (x_px, y_px), (mpp_x, mpp_y) = score_map.lattice.origin_px, score_map.slide_mpp
    annotation = {
        **{f"class {n}": name for n, name in enumerate(score_map.classes, 1)},
        **{f"color {n}": color for n, color in enumerate(score_map.colors, 1)},
        "grid": json.dumps(grid.about()),
        "model": score_map.model_name,
        "model_sha256": score_map.model_sha256,
        "slide": score_map.slide_id,
        "note": RESEARCH_USE,
    }
    return {
        "axes": "YX",
        "UUID": str(uuid5(_NAMESPACE, canonical_json(run))),
        "Name": score_map.slide_id,
        **place_on_slide((grid.mpp, grid.mpp), (x_px * mpp_x, y_px * mpp_y)),
        "MapAnnotation": annotation,
    }


def read_mask(path: Path) -> SlideMask:
    """Read what `write_mask` wrote, into scratch files instead of into memory.

    Raises:
        StoreCorruptError: It is damaged or no mask of napari-xt.
        StoreError: It cannot be read.
    """
    import tifffile

    corrupt = StoreCorruptError(f"{path.name} is no mask of {PRODUCT}", "Score the slide again")
    try:
        with tifffile.TiffFile(path) as tiff:
            ome = tifffile.xml2dict(tiff.ome_metadata or "")["OME"]
            notes = ome["StructuredAnnotations"]["MapAnnotation"]["Value"]["M"]
            said = {str(note["K"]): str(note["value"]) for note in notes}
            series = tiff.series[0]
            if series.dtype != np.uint8 or series.ndim != 2:
                raise corrupt
            grid = json.loads(said["grid"])
            numbers = range(1, 1 + sum(key.startswith("class ") for key in said))
            return SlideMask(
                tuple(level.asarray(out="memmap") for level in series.levels),
                float(ome["Image"]["Pixels"]["PhysicalSizeX"]),
                tuple(grid["origin_px"]),
                tuple(grid["slide_mpp"]),
                tuple(said[f"class {n}"] for n in numbers),
                tuple(said[f"color {n}"] for n in numbers),
            )
    except (FileNotFoundError, PermissionError) as error:
        raise StoreError(
            f"{path.name} cannot be read ({error.strerror})", "Check the path and its permissions"
        ) from error
    # imagecodecs raises errors of kind RuntimeError for tiles that are damaged.
    except (OSError, KeyError, TypeError, ValueError, SyntaxError, RuntimeError) as error:
        if isinstance(error, StoreError):
            raise
        raise corrupt from error
