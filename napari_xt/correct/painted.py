"""What painted regions and outlines are worth: as areas, and as regions of a class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    from shapely.geometry import MultiPolygon, Polygon

    from xt_backend.store import ScoreMap

    Named = tuple[str, Polygon | MultiPolygon]

__all__ = ["painted_areas", "regions_by_class"]

LEAST = 0.3
"""Share of a region that has to be covered; the usual rule of models."""


def painted_areas(score_map: ScoreMap, painted: npt.NDArray[Any]) -> list[Named]:
    """Class and area, level-0 px, of what was painted on the lattice of a result.

    Args:
        score_map: The result.
        painted: (rows, columns) 0, or one more than the index of a class.
    """
    import shapely

    from napari_xt.areal import areal

    found: list[Named] = []
    for index, name in enumerate(score_map.classes):
        rows, columns = np.nonzero(painted == index + 1)
        if len(rows):
            cells = np.stack([columns, rows], axis=1).astype(np.int32)
            boxes = shapely.box(*score_map.lattice.boxes(cells).T.astype(float))
            found.append((name, areal(shapely.union_all(boxes))))
    return found


def regions_by_class(score_map: ScoreMap, named: Sequence[Named]) -> dict[str, int]:
    """How many scored regions areas give each class, as training counts them.

    Args:
        score_map: The result.
        named: Class and area, level-0 px; later ones lie over earlier ones.
    """
    from xt_backend.slides import Shape
    from xt_backend.training.targets import Areas

    classes, lattice = score_map.classes, score_map.lattice
    if not named:
        return dict.fromkeys(classes, 0)
    areas = Areas(
        [Shape(name, area) for name, area in named],
        {name: index for index, name in enumerate(classes)},
    )
    extent = (*lattice.origin_px, *lattice.extent_px)
    targets = areas.targets(lattice.boxes(score_map.cells[score_map.scored]), extent)
    labels = targets.fractions.argmax(axis=1)[targets.annotated >= LEAST]
    return {name: int((labels == index).sum()) for index, name in enumerate(classes)}
