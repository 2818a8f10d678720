"""``<id>.outlines.geojson``: what belongs together as one annotation, for QuPath."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid5

import numpy as np
import numpy.typing as npt
import shapely
from scipy import ndimage
from shapely.geometry.polygon import orient

from xt_backend.outputs.geojson import collection, run_namespace, to_json
from xt_backend.outputs.palette import rgb
from xt_backend.outputs.regions_table import PROB_PREFIX
from xt_backend.samples.mask_outlines import outline_of
from xt_backend.store.score_map import ScoreMap

__all__ = ["Outline", "outlines", "write_outlines"]


@dataclass(frozen=True)
class Outline:
    """Regions of one class that lie side by side.

    Attributes:
        label: Index of the class.
        polygon: With holes, whole level-0 px in OpenSlide's frame; its ring runs as GeoJSON asks.
        rows: (m,) its regions in the score map, in raster order.
    """

    label: int
    polygon: shapely.Polygon
    rows: npt.NDArray[np.int64]


def outlines(score_map: ScoreMap) -> Iterator[Outline]:
    """What belongs together, class by class, in raster order.

    Regions that only share a corner are apart. Of overlapping regions (stride) each counts with
    its middle, as wide as the stride, so that classes never overlap.
    """
    labels = score_map.grid(score_map.labels(), fill=-1)
    places = score_map.grid(np.arange(len(score_map), dtype=np.int64), fill=-1)
    x_px, y_px = (score_map.lattice.middle_edges(axis) for axis in (0, 1))
    for label in range(len(score_map.classes)):
        numbers, _ = ndimage.label(labels == label)
        for number, found in enumerate(ndimage.find_objects(numbers), 1):
            inside = numbers[found] == number
            # Most pieces are small: a box needs no union.
            outline = shapely.box(0, 0, *inside.shape[::-1]) if inside.all() else outline_of(inside)
            if not isinstance(outline, shapely.Polygon):
                raise TypeError(f"one piece gave a {outline.geom_type}")
            corners = shapely.get_coordinates(outline).astype(np.int64)
            x, y = x_px[corners[:, 0] + found[1].start], y_px[corners[:, 1] + found[0].start]
            polygon = shapely.set_coordinates(outline, np.stack([x, y], axis=1).astype(np.float64))
            yield Outline(label, orient(polygon), places[found][inside])


def write_outlines(path: Path, score_map: ScoreMap) -> None:
    """Publish the outlines as a FeatureCollection of QuPath annotations.

    Each has its class with the colour, and as measurements the number of its regions, its area
    and the mean probability of each class over them. Ids depend on slide, model, lattice, class
    and first region only.

    Args:
        path: Where it should go; compressed if it ends in ``.gz``.
        score_map: What to write.

    Raises:
        OutputError: It cannot be written.
    """
    collection(path, score_map, _features(score_map))


def _features(score_map: ScoreMap) -> Iterator[str]:
    namespace = run_namespace(score_map)
    probabilities = score_map.probabilities
    corner = np.array(score_map.bounds_px[:2])
    for one in outlines(score_map):
        name = score_map.classes[one.label]
        col, row = score_map.cells[one.rows[0]].tolist()
        rings = [one.polygon.exterior, *one.polygon.interiors]
        means = probabilities[one.rows].mean(axis=0, dtype=np.float64)
        area_um2 = one.polygon.area * score_map.slide_mpp[0] * score_map.slide_mpp[1]
        yield to_json(
            {
                "type": "Feature",
                "id": str(uuid5(namespace, f"outline,{one.label},{col},{row}")),
                "geometry": {
                    "type": "Polygon",
                    "coordinates": [
                        (shapely.get_coordinates(ring).astype(np.int64) - corner).tolist()
                        for ring in rings
                    ],
                },
                "properties": {
                    "objectType": "annotation",
                    "classification": {"name": name, "color": rgb(score_map.colors[one.label])},
                    "measurements": {
                        "n_regions": len(one.rows),
                        "area_um2": round(area_um2, 3),
                        **{
                            PROB_PREFIX + known: round(float(mean), 6)
                            for known, mean in zip(score_map.classes, means, strict=True)
                        },
                    },
                },
            }
        )
