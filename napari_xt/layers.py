"""From slides and score maps to what napari's layers take. Everything is in um."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xt.doubts import doubts_layer
from napari_xt.statuses import WITHOUT_CLASS
from xt_backend.keys import PRODUCT, RegionStatus
from xt_backend.slides import first_middle_px

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.utils import Colormap, DirectLabelColormap

    from napari_xt.pyramid import Pyramid
    from xt_backend.store import ScoreMap

    LayerData = tuple[Any, dict[str, Any], str]

__all__ = [
    "LEFT_OUT",
    "NOT_DONE",
    "NOT_LOOKED_AT",
    "UNREADABLE",
    "class_map",
    "lattice_transform",
    "names",
    "probability_maps",
    "result_facts",
    "score_map_layers",
    "slide_layer",
    "status_map",
]

MICROMETRE = "micrometer"
UNITS = (MICROMETRE, MICROMETRE)
AXES = ("y", "x")

SHOWN_MPP = "slide_mpp"
"""Key of a slide layer's facts: the pixel size that it is shown with."""

DRAWN = "drawn"
"""Key of the facts of a layer that holds what was drawn on a slide: no result, but ours."""

UNKNOWN_MPP = " (pixel size unknown)"

NOT_DONE = 1
UNREADABLE = 2
NOT_LOOKED_AT = 3
LEFT_OUT = 4
DOUBTFUL = 5
_STATUS_COLORS = {
    NOT_DONE: (0.10, 0.12, 0.22, 0.55),
    UNREADABLE: (0.84, 0.10, 0.55, 0.95),
    NOT_LOOKED_AT: (0.55, 0.55, 0.55, 0.55),
    LEFT_OUT: (0.05, 0.05, 0.05, 0.9),
    DOUBTFUL: (0.10, 0.10, 0.10, 0.75),
}
_STATUS_CODES = {
    RegionStatus.SKIPPED: NOT_DONE,
    RegionStatus.READ_ERROR: UNREADABLE,
    RegionStatus.SCREENED_OUT: NOT_LOOKED_AT,
    RegionStatus.LEFT_OUT: LEFT_OUT,
    RegionStatus.EXCLUDED: DOUBTFUL,
}


def slide_layer(pyramid: Pyramid) -> LayerData:
    """Layer data of a slide: multiscale RGB image, level-0 px (0, 0) at the world's origin.

    Without a pixel size the layer is in px and its name says so.
    """
    info = pyramid.info
    options: dict[str, Any] = {
        "name": info.name if info.mpp else f"{info.name}{UNKNOWN_MPP}",
        "multiscale": True,
        "rgb": True,
        "axis_labels": AXES,
        "metadata": {PRODUCT: _slide_facts(pyramid)},
    }
    if info.mpp is not None:
        options |= {"scale": (info.mpp.y, info.mpp.x), "units": UNITS}
    return pyramid.levels, options, "image"


def _slide_facts(pyramid: Pyramid) -> dict[str, Any]:
    """What may be exported with a layer: nothing that names a patient, place or date."""
    info = pyramid.info
    return {
        "vendor": info.vendor,
        "level_dimensions": [list(size) for size in info.level_dimensions],
        "bounds_px": list(info.bounds_px),
        SHOWN_MPP: None if info.mpp is None else [info.mpp.x, info.mpp.y],
        "mpp_source": None if info.mpp is None else info.mpp.source,
        "objective_power": info.objective_power,
    }


def lattice_transform(score_map: ScoreMap) -> tuple[tuple[float, float], tuple[float, float]]:
    """Scale and translate (y, x) in um that lay the lattice's grid over the slide.

    One pixel of the grid is one step of the lattice, centred on its region.
    """
    lattice = score_map.lattice
    step_um = lattice.stride_px * lattice.model_mpp
    x_px, y_px = first_middle_px(lattice.middles_to_level0())
    mpp_x, mpp_y = lattice.slide_mpp
    return (step_um, step_um), (y_px * mpp_y, x_px * mpp_x)


def names(slide_name: str, classes: tuple[str, ...]) -> tuple[str, list[str], str]:
    """Names of the layers: class map, probability of each class, status."""
    return (
        f"xT classes — {slide_name}",
        [f"xT {name} — {slide_name}" for name in classes],
        f"xT status — {slide_name}",
    )


def class_map(score_map: ScoreMap, *, context: bool = True) -> npt.NDArray[np.integer[Any]]:
    """(rows, cols): class index + 1, 0 where nothing is scored."""
    labels = score_map.labels(region_only=not context)
    dtype = np.uint8 if len(score_map.classes) < 255 else np.uint16
    return score_map.grid((labels + 1).astype(dtype), 0)


def probability_maps(score_map: ScoreMap, *, context: bool = True) -> npt.NDArray[np.float32]:
    """(rows, cols, classes) in 0 to 1, NaN where nothing is scored."""
    values = score_map.probabilities if context else score_map.region_only_probabilities
    return score_map.grid(values.astype(np.float32, copy=False), np.nan)


def status_map(score_map: ScoreMap) -> npt.NDArray[np.uint8]:
    """(rows, cols): a code for regions without a class; 0 for scored ones and background."""
    codes = np.zeros(len(score_map.status), np.uint8)
    for status, code in _STATUS_CODES.items():
        codes[score_map.status == status] = code
    return score_map.grid(codes, 0)


def row_map(score_map: ScoreMap) -> npt.NDArray[np.int64]:
    """(rows, cols): row of the score map, -1 where there is no region."""
    return score_map.grid(np.arange(len(score_map.cells), dtype=np.int64), -1)


def score_map_layers(score_map: ScoreMap, *, context: bool = True) -> list[LayerData]:
    """Layer data of a result, bottom to top: probabilities (hidden), class map, status, doubts."""
    scale, translate = lattice_transform(score_map)
    placed = {
        "scale": scale,
        "translate": translate,
        "units": UNITS,
        "axis_labels": AXES,
        "metadata": {PRODUCT: result_facts(score_map)},
    }
    class_name, probability_names, status_name = names(score_map.slide_name, score_map.classes)
    probabilities = probability_maps(score_map, context=context)
    layers: list[LayerData] = [
        (
            np.ascontiguousarray(probabilities[..., index]),
            {
                **placed,
                "name": name,
                "colormap": probability_colormap(score_map.colors[index]),
                "contrast_limits": (0.0, 1.0),
                "interpolation2d": "nearest",
                "blending": "translucent",
                "visible": False,
            },
            "image",
        )
        for index, name in enumerate(probability_names)
    ]
    labels = class_map(score_map, context=context)
    layers.append(
        (
            labels,
            {
                **placed,
                "name": class_name,
                "colormap": class_colormap(score_map.colors),
                "features": class_features(score_map, context=context),
                "opacity": 0.55,
                "blending": "translucent",
            },
            "labels",
        )
    )
    layers.append(
        (
            status_map(score_map),
            {
                **placed,
                "name": status_name,
                "colormap": status_colormap(),
                "features": {
                    "index": [0, *_STATUS_CODES.values()],
                    "status": ["", *(WITHOUT_CLASS[status] for status in _STATUS_CODES)],
                },
                "opacity": 0.6,
                "blending": "translucent",
            },
            "labels",
        )
    )
    if score_map.quality is not None:
        layers.append(doubts_layer(score_map, placed))
    return layers


def result_facts(score_map: ScoreMap) -> dict[str, Any]:
    """What a result's layers say of their origin, as JSON."""
    return {
        "model": score_map.model_name,
        "model_sha256": score_map.model_sha256,
        "task": score_map.task,
        "classes": list(score_map.classes),
        "slide_mpp": list(score_map.slide_mpp),
        "mpp_source": score_map.mpp_source,
        "lattice": score_map.lattice.to_dict(),
    }


def class_features(score_map: ScoreMap, *, context: bool = True) -> dict[str, list[Any]]:
    """What napari shows beside a label: its class and share, as in the panel."""
    shares = score_map.fractions(region_only=not context).values()
    screened = RegionStatus.SCREENED_OUT in score_map.status
    what = "tissue, scored or screened out" if screened else "scored tissue"
    return {
        "index": [0, *range(1, len(score_map.classes) + 1)],
        "class": ["not scored", *score_map.classes],
        "share": [
            None,
            *("" if np.isnan(share) else f"{share:.1%} of the {what}" for share in shares),
        ],
    }


def class_colormap(colors: tuple[str, ...]) -> DirectLabelColormap:
    """Label value = class index + 1; everything else is transparent."""
    from napari.utils import DirectLabelColormap

    table: dict[int | None, Any] = {None: "transparent", 0: "transparent"}
    return DirectLabelColormap(
        color_dict={**table, **{index + 1: color for index, color in enumerate(colors)}}
    )


def status_colormap() -> DirectLabelColormap:
    """Grey veil over what waits, strong magenta over what could not be read."""
    from napari.utils import DirectLabelColormap

    table: dict[int | None, Any] = {None: "transparent", 0: "transparent"}
    return DirectLabelColormap(color_dict={**table, **_STATUS_COLORS})


def probability_colormap(color: str) -> Colormap:
    """From transparent at 0 to the class colour at 1, so that the tissue stays visible.

    Its name is short: napari makes the left column as wide as the longest one.
    """
    from napari.utils import Colormap
    from napari.utils.colormaps.standardize_color import transform_color

    red, green, blue, _ = transform_color(color)[0]
    ramp = [[red, green, blue, 0.0], [red, green, blue, 0.85]]
    return Colormap(ramp, name=f"xT {color}", nan_color=(0.0, 0.0, 0.0, 0.0))
