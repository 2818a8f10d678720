"""Masks and points as napari's layers take them. Everything is in um."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xt.layers import AXES, UNITS, class_colormap
from xt_backend.keys import PRODUCT, RunFile
from xt_backend.slides import first_middle_px

if TYPE_CHECKING:
    from napari_xt.layers import LayerData
    from xt_backend.outputs import SlideMask
    from xt_backend.store import Points, ScoreMap

__all__ = ["dense_layers", "mask_layer", "point_columns", "points_layer"]

POINT_UM = 8.0


def mask_layer(mask: SlideMask, slide_name: str) -> LayerData:
    """Layer data of a mask: labels, class index + 1, in the classes' colours."""
    (x_px, y_px), (mpp_x, mpp_y) = first_middle_px(mask.affine_to_level0()), mask.slide_mpp
    levels = list(mask.levels)
    return (
        levels if len(levels) > 1 else levels[0],
        {
            "name": f"xT mask — {slide_name}",
            "multiscale": len(levels) > 1,
            "scale": (mask.mpp, mask.mpp),
            "translate": (y_px * mpp_y, x_px * mpp_x),
            "units": UNITS,
            "axis_labels": AXES,
            "colormap": class_colormap(mask.colors),
            "features": {
                "index": list(range(len(mask.classes) + 1)),
                "class": ["nothing", *mask.classes],
            },
            "metadata": {PRODUCT: {"classes": list(mask.classes), "mpp": mask.mpp}},
            "opacity": 0.55,
            "blending": "translucent",
        },
        "labels",
    )


def points_layer(points: Points, score_map: ScoreMap) -> LayerData:
    """Layer data of points: their kind's colour, kind and score as features."""
    data, columns = point_columns(points, score_map)
    return (
        data,
        {
            "name": f"xT points — {score_map.slide_name}",
            "size": POINT_UM,
            "border_width": 0.15,
            "border_color": "white",
            "units": UNITS,
            "axis_labels": AXES,
            "metadata": {
                PRODUCT: {"model": score_map.model_name, "model_sha256": score_map.model_sha256}
            },
            **columns,
        },
        "points",
    )


def point_columns(points: Points, score_map: ScoreMap) -> tuple[Any, dict[str, Any]]:
    """What changes with the points: (n, 2) y, x in um, and colours and features of each."""
    from napari.utils.colormaps.standardize_color import transform_color

    from xt_backend.outputs import point_kinds

    kinds = point_kinds(score_map)
    colors = transform_color(list(score_map.colors[-len(kinds) :]))
    mpp_x, mpp_y = score_map.slide_mpp
    data = np.stack([(points.y_px - 0.5) * mpp_y, (points.x_px - 0.5) * mpp_x], axis=1)
    features = {"class": np.array(kinds, object)[points.kind], "score": points.score}
    if not len(points):
        return data, {"features": features}  # napari takes no list of no colours
    return data, {"face_color": colors[points.kind], "features": features}


def dense_layers(run: Path, score_map: ScoreMap) -> list[LayerData]:
    """The layers of the mask or the points that lie beside a score map.

    Args:
        run: Folder of the run, or the ``.run.h5`` file in it.
        score_map: Of one slide of it.

    Raises:
        StoreError: A file is damaged.
    """
    from xt_backend.outputs import point_kinds, read_mask, read_points_csv

    folder = run.parent if run.is_file() else run
    mask = folder / f"{score_map.slide_id}{RunFile.MASK}"
    points = folder / f"{score_map.slide_id}{RunFile.POINTS_CSV}"
    layers = []
    if score_map.task == "dense" and mask.is_file():
        layers.append(mask_layer(read_mask(mask), score_map.slide_name))
    if score_map.task == "detection" and points.is_file():
        found = read_points_csv(points, point_kinds(score_map))
        layers.append(points_layer(found, score_map))
    return layers
