"""Slides: opening, pixel size, tissue, region places, reading.

Names are loaded on first use: who needs only the lattice loads neither OpenSlide nor SciPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xt_backend import lazy

if TYPE_CHECKING:
    from .colour import COLOUR_NUMBERS, stained_colours
    from .discover import Discovery, find_slides
    from .first_middle import first_middle_px
    from .info import SlideInfo
    from .lattice import Lattice
    from .mpp import SlideMpp, check_mpp, check_scale
    from .normaliser import (
        StainNormaliser,
        StainStats,
        average_stain,
        measure_stain,
        sample_stained,
    )
    from .objects import Objects, read_objects
    from .reader import Reader, RegionBatch
    from .shapes import Shape, read_area, read_shapes, repair, sift_features
    from .slide import Slide, open_slide
    from .stain import Evidence, weigh
    from .thumbnail import Thumbnail
    from .tissue import Tissue, find_tissue, tissue_at
    from .tissue_by_hand import everything, tissue_from_mask, tissue_from_shapes

_HOMES = {
    "COLOUR_NUMBERS": "colour",
    "Discovery": "discover",
    "Evidence": "stain",
    "Lattice": "lattice",
    "Objects": "objects",
    "Reader": "reader",
    "RegionBatch": "reader",
    "Shape": "shapes",
    "Slide": "slide",
    "SlideInfo": "info",
    "SlideMpp": "mpp",
    "StainNormaliser": "normaliser",
    "StainStats": "normaliser",
    "Thumbnail": "thumbnail",
    "Tissue": "tissue",
    "average_stain": "normaliser",
    "check_mpp": "mpp",
    "check_scale": "mpp",
    "everything": "tissue_by_hand",
    "find_slides": "discover",
    "find_tissue": "tissue",
    "first_middle_px": "first_middle",
    "measure_stain": "normaliser",
    "open_slide": "slide",
    "read_objects": "objects",
    "read_area": "shapes",
    "read_shapes": "shapes",
    "sift_features": "shapes",
    "repair": "shapes",
    "sample_stained": "normaliser",
    "stained_colours": "colour",
    "tissue_at": "tissue",
    "tissue_from_mask": "tissue_by_hand",
    "tissue_from_shapes": "tissue_by_hand",
    "weigh": "stain",
}

__all__ = [
    "COLOUR_NUMBERS",
    "Discovery",
    "Evidence",
    "Lattice",
    "Objects",
    "Reader",
    "RegionBatch",
    "Shape",
    "Slide",
    "SlideInfo",
    "SlideMpp",
    "StainNormaliser",
    "StainStats",
    "Thumbnail",
    "Tissue",
    "average_stain",
    "check_mpp",
    "check_scale",
    "everything",
    "find_slides",
    "find_tissue",
    "first_middle_px",
    "measure_stain",
    "open_slide",
    "read_area",
    "read_objects",
    "read_shapes",
    "repair",
    "sample_stained",
    "sift_features",
    "stained_colours",
    "tissue_at",
    "tissue_from_mask",
    "tissue_from_shapes",
    "weigh",
]


__getattr__ = lazy.attributes(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
