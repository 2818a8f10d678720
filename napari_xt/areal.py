"""What of a geometry has an area: lines and points, as repairs leave them, hold no tissue."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shapely.geometry import MultiPolygon, Polygon
    from shapely.geometry.base import BaseGeometry

__all__ = ["areal", "polygons_in"]


def polygons_in(geometry: BaseGeometry) -> list[Polygon]:
    """Its polygons, however deep they lie in collections; those without area are left out."""
    import shapely

    found: list[Polygon] = []
    waiting = shapely.get_parts(geometry).tolist()
    while waiting:
        part = waiting.pop(0)
        if part.geom_type == "Polygon":
            found += [part] if part.area > 0 else []
        elif part.area > 0:
            waiting += shapely.get_parts(part).tolist()
    return found


def areal(geometry: BaseGeometry) -> Polygon | MultiPolygon:
    """The same without lines and points: one polygon, else a MultiPolygon, empty if need be."""
    import shapely

    found = polygons_in(geometry)
    return found[0] if len(found) == 1 else shapely.MultiPolygon(found)
