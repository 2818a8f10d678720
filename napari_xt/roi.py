"""From shapes drawn in napari to a region of interest in level-0 px."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xt.areal import areal
from xt_backend.errors import AnnotationError

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.layers import Image, Layer, Shapes
    from shapely.geometry import MultiPolygon, Polygon

    _Move = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]

__all__ = ["outlines", "ring_in", "roi_from_shapes"]

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

    polygons = [polygon for _, polygon in outlines(shapes, slide)]
    if not polygons:
        raise AnnotationError(
            f"The layer {shapes.name!r} holds no closed shape",
            "Draw a polygon, rectangle or ellipse around the tissue that you want scored",
        )
    geometry: dict[str, Any] = shapely.geometry.mapping(areal(shapely.union_all(polygons)))
    return geometry


def outlines(shapes: Shapes, slide: Image) -> list[tuple[int, Polygon | MultiPolygon]]:
    """The areas of a layer's closed shapes, level-0 px, each with its place in the layer.

    Args:
        shapes: As of `roi_from_shapes`.
        slide: As of `roi_from_shapes`.
    """
    import shapely

    found: list[tuple[int, Polygon | MultiPolygon]] = []
    if not len(shapes.data):
        return found
    to_px = _to_level0_px(shapes, slide)
    for index, (vertices, kind) in enumerate(zip(shapes.data, shapes.shape_type, strict=True)):
        if kind in ("line", "path"):
            continue
        ring = _ellipse(vertices[:, -2:]) if kind == "ellipse" else vertices[:, -2:]
        if len(ring) < 3:
            continue
        polygon = areal(shapely.make_valid(shapely.Polygon(to_px(ring))))
        if polygon.area > 0:
            found.append((index, polygon))
    return found


def ring_in(
    shapes: Layer, slide: Layer, ring_px: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """An outline in a layer's own coordinates: the inverse of what `outlines` does.

    Args:
        shapes: The layer.
        slide: The slide that it lies on.
        ring_px: (n, 2) x, y in level-0 px.

    Returns:
        (n, 2) row, column.
    """
    factor = _unit_factor(shapes, slide)

    def to_data(x: float, y: float) -> Any:
        world = np.asarray(slide.data_to_world((y - 0.5, x - 0.5)))[-2:] / factor
        return shapes.world_to_data(tuple(world))[-2:]

    return _straight(to_data)(ring_px)


def _to_level0_px(shapes: Layer, slide: Layer) -> _Move:
    """Takes (n, 2) row, column of the shapes to x, y."""
    factor = _unit_factor(shapes, slide)

    def to_px(row: float, column: float) -> Any:
        world = np.asarray(shapes.data_to_world((row, column))) * factor
        y, x = slide.world_to_data(tuple(world))[-2:]
        # napari counts from the middle of the first pixel, files from its corner.
        return x + 0.5, y + 0.5

    return _straight(to_px)


def _straight(move: Callable[[float, float], Any]) -> _Move:
    """An affine map of many points, from one that napari does point by point."""
    corner, *steps = (np.array(move(*place), float) for place in ((0, 0), (1, 0), (0, 1)))
    matrix = np.array([step - corner for step in steps])
    return lambda points: np.asarray(points, float) @ matrix + corner


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
