"""Areas as napari and QuPath take them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_xt.areal import areal, polygons_in
from xt_backend.keys import PRODUCT

if TYPE_CHECKING:
    from shapely.geometry import Polygon
    from shapely.geometry.base import BaseGeometry

    from napari_xt.correct.painted import Named

__all__ = ["GREY", "read_areas", "without_holes", "write_areas"]

GREY = "#808080"
"""Of classes that a model does not know."""

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, f"{PRODUCT}/correction")


def without_holes(area: BaseGeometry) -> list[Polygon]:
    """Cut an area into polygons without holes, which together are the same.

    Args:
        area: Polygon, MultiPolygon or any collection; what has no area is left out.
    """
    import shapely

    done: list[Polygon] = []
    waiting = polygons_in(area)
    while waiting:
        part = waiting.pop()
        if not part.interiors:
            done.append(part)
            continue
        left, top, right, bottom = part.bounds
        middle = part.interiors[0].centroid.x
        for half in ((left, top, middle, bottom), (middle, top, right, bottom)):
            waiting += polygons_in(part.intersection(shapely.box(*half)))
    return done


def read_areas(path: Path, bounds_px: tuple[float, float]) -> list[Named]:
    """Class and area, level-0 px, of QuPath annotations; "" where there is no class.

    Args:
        path: GeoJSON.
        bounds_px: (x, y) from which QuPath counts.

    Raises:
        AnnotationError: It cannot be used; the text says why.
    """
    from xt_backend.slides import read_shapes

    return [(one.name or "", one.geometry) for one in read_shapes(path, offset_px=bounds_px)]


def write_areas(
    path: Path,
    named: Sequence[tuple[str, BaseGeometry]],
    colors: dict[str, str],
    bounds_px: tuple[float, float],
) -> None:
    """Write areas as QuPath annotations.

    Args:
        path: GeoJSON, replaced if it is there.
        named: Class and area, level-0 px.
        colors: ``#rrggbb`` by class; others are grey.
        bounds_px: (x, y) from which QuPath counts.

    Raises:
        OutputError: It cannot be written.
    """
    import shapely

    from xt_backend.publishing import publish_bytes
    from xt_backend.samples.qupath import annotation, collection_bytes

    features = []
    for number, (name, area) in enumerate(named):
        whole = shapely.transform(areal(area), lambda xy: xy - bounds_px)
        own = uuid.uuid5(_NAMESPACE, f"{number} {name} {whole.wkt}")
        features.append(
            annotation(own, shapely.geometry.mapping(whole), name, colors.get(name, GREY))
        )
    publish_bytes(path, collection_bytes(features))
