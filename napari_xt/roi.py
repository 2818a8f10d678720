"""From shapes drawn in napari to a region of interest in level-0 px."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xt_backend.errors import AnnotationError

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.layers import Image, Layer, Shapes

__all__ = ["roi_from_shapes"]

_ELLIPSE_POINTS = 72


def roi_from_shapes(shapes: Shapes, slide: Image) -> dict[str, Any]:
    """The union of a layer's closed shapes as a GeoJSON geometry.

    Lines and paths enclose nothing and are left out. Coordinates go through the world, so the
    shapes may have been drawn in um, in px or over a moved slide.

    Args:
        shapes: Rectangles, ellipses and polygons.
        slide: Layer of the slide that they are drawn on.

    Returns:
        Polygon or MultiPolygon in level-0 px (x, y), pixel corners at whole numbers.

    Raises:
        AnnotationError: No shape encloses an area.
    """
    import shapely

    polygons = []
    for vertices, kind in zip(shapes.data, shapes.shape_type, strict=True):
        if kind in ("line", "path"):
            continue
        ring = _ellipse(vertices[:, -2:]) if kind == "ellipse" else vertices[:, -2:]
        if len(ring) < 3:
            continue
        polygon = shapely.make_valid(shapely.Polygon(_level0_px(ring, shapes, slide)))
        if polygon.area > 0:
            polygons.append(polygon)
    if not polygons:
        raise AnnotationError(
            f"The layer {shapes.name!r} holds no closed shape",
            "Draw a polygon, rectangle or ellipse around the tissue that you want scored",
        )
    union = shapely.union_all(polygons)
    geometry: dict[str, Any] = shapely.geometry.mapping(union)
    return geometry


def _level0_px(
    ring: npt.NDArray[np.float64], shapes: Layer, slide: Layer
) -> npt.NDArray[np.float64]:
    factor = _unit_factor(shapes, slide)
    points = []
    for row, column in ring:
        world = np.asarray(shapes.data_to_world((row, column))) * factor
        y, x = slide.world_to_data(tuple(world))[-2:]
        # napari counts from the middle of the first pixel, files from its corner.
        points.append((x + 0.5, y + 0.5))
    return np.array(points)


def _unit_factor(shapes: Layer, slide: Layer) -> float:
    """What turns the shapes' world numbers into the slide's; as napari, 1 where units clash."""
    theirs, ours = shapes.units[-1], slide.units[-1]
    if theirs.dimensionality != ours.dimensionality:
        return 1.0
    return float((1 * theirs).to(ours).magnitude)


def _ellipse(corners: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Points on the ellipse inside a (possibly turned) box of 4 corners."""
    centre = corners.mean(axis=0)
    first, second = (corners[1] - corners[0]) / 2, (corners[2] - corners[1]) / 2
    angles = np.linspace(0, 2 * np.pi, _ELLIPSE_POINTS, endpoint=False)[:, None]
    points: npt.NDArray[np.float64] = centre + np.cos(angles) * first + np.sin(angles) * second
    return points
