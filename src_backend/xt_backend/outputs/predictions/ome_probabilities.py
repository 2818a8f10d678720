"""Format ``ome-tiff``: the probabilities as a picture that lies over the slide."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import numpy as np
import numpy.typing as npt

from xt_backend.keys import RESEARCH_USE, RunFile
from xt_backend.outputs.ome_tiff import place_on_slide, write_ome_tiff
from xt_backend.outputs.palette import rgb
from xt_backend.outputs.predictions.prediction_format import PredictionFormat, PredictionOptions
from xt_backend.store.plain import canonical_json
from xt_backend.store.score_map import ScoreMap

__all__ = ["OmeProbabilities"]

_NAMESPACE = uuid5(NAMESPACE_URL, "napari-xt/probabilities")
_SMALLEST_LEVEL_PX = 128

Maps = npt.NDArray[np.float32]


class OmeProbabilities(PredictionFormat):
    """``<id>.probabilities.ome.tiff``: a channel a class, float32, NaN where there is no score.

    One pixel stands for one region (of overlapping ones for its middle, as wide as the stride).
    Pixel size and the place of the first pixel's corner on the slide are in the file, in um from
    the slide's level-0 pixel (0, 0), and exactly in the map annotation ``grid``, in level-0 px.
    Each coarser level holds means over 2 x 2 pixels of the one before.
    """

    name = "ome-tiff"

    def file(self, slide_id: str, options: PredictionOptions) -> str:
        """See `PredictionFormat`."""
        return slide_id + RunFile.PROBABILITIES

    def write(
        self, path: Path, score_map: ScoreMap, options: PredictionOptions, slide: Path | None
    ) -> None:
        """See `PredictionFormat`."""
        lattice = score_map.lattice
        affine = lattice.middles_to_level0()
        step_px, corner_px = np.diag(affine)[:2].tolist(), affine[:2, 2].tolist()
        corner_um = (corner_px[0] * lattice.slide_mpp[0], corner_px[1] * lattice.slide_mpp[1])
        step_um = lattice.stride_px * lattice.model_mpp
        maps = np.ascontiguousarray(np.moveaxis(score_map.grid(score_map.probabilities), 2, 0))
        grid = {
            "frame": "level-0 px of the slide, bounds not subtracted",
            "origin_px": corner_px,
            "step_px": step_px,
            "slide_mpp": list(lattice.slide_mpp),
            "bounds_corner_px": list(score_map.bounds_px[:2]),
        }
        run = [score_map.slide_id, score_map.model_sha256, lattice.to_dict()]
        metadata = {
            "axes": "CYX",
            "UUID": str(uuid5(_NAMESPACE, canonical_json(run))),
            "Name": score_map.slide_id,
            "Channel": {
                "Name": list(score_map.classes),
                "Color": [_ome_color(color) for color in score_map.colors],
            },
            **place_on_slide((step_um, step_um), corner_um, len(score_map.classes)),
            "MapAnnotation": {
                "grid": json.dumps(grid),
                "model": score_map.model_name,
                "model_sha256": score_map.model_sha256,
                "slide": score_map.slide_id,
                "note": RESEARCH_USE,
            },
        }
        write_ome_tiff(path, _levels(maps), (step_um, step_um), metadata)


def _levels(maps: Maps) -> list[Maps]:
    levels = [maps]
    while max(levels[-1].shape[1:]) > _SMALLEST_LEVEL_PX:
        levels.append(_half(levels[-1]))
    return levels


def _half(maps: Maps) -> Maps:
    """Means over 2 x 2 pixels of those that have a value."""
    n, height, width = maps.shape
    even = np.pad(maps, ((0, 0), (0, height % 2), (0, width % 2)), constant_values=np.nan)
    blocks = even.reshape(n, (height + 1) // 2, 2, (width + 1) // 2, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # means over nothing are NaN
        means: Maps = np.nanmean(blocks, axis=(2, 4), dtype=np.float32)
    return means


def _ome_color(color: str) -> int:
    """As OME has it: red, green, blue and opacity in a signed number."""
    red, green, blue = rgb(color)
    value = red << 24 | green << 16 | blue << 8 | 255
    return value - 2**32 if value >= 2**31 else value
