"""Where everything lies on a sample slide: outlines only, no pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
from scipy import spatial
from shapely import affinity
from shapely.geometry import MultiPolygon, Polygon

from xt_backend.errors import UsageError
from xt_backend.samples.glands import Gland, place_glands

__all__ = ["MIN_SIDE_PX", "MPP", "Layout", "Lobule", "draw_layout"]

MPP = 0.5
"""um per px of every sample slide."""
MIN_SIDE_PX = 1024

_PITCH_PX = 1400
_LOBULE_RADIUS_PX = (450.0, 690.0)
_GAP_PX = (245.0, 360.0)
_RIM_PX = 90.0
_LEAST_AREA_PX2 = 250_000.0
_NEST_RADIUS_PX = (88.0, 116.0)

Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Lobule:
    """One lobule.

    Args:
        outline: Level-0 px.
        nest_site: Where its tumour nest lies, or would lie if it had one, level-0 px.
        has_nest: Whether it has one; decides between `reactive` and `normal`.
    """

    outline: Polygon
    nest_site: Polygon
    has_nest: bool


@dataclass(frozen=True)
class Layout:
    """Outlines of one slide, all in level-0 px.

    Args:
        width_px: Of the slide.
        height_px: Of the slide.
        tissue: The section.
        lobules: At least 245 px (120 um) apart.
        glands: Benign glands, in lobules and between them.
    """

    width_px: int
    height_px: int
    tissue: Polygon
    lobules: tuple[Lobule, ...]
    glands: tuple[Gland, ...]

    @property
    def nests(self) -> tuple[Polygon, ...]:
        """Outlines of the nests that are there."""
        return tuple(lobule.nest_site for lobule in self.lobules if lobule.has_nest)


def _largest(geometry: shapely.Geometry) -> Polygon:
    """The largest polygon, without holes; empty if there is none."""
    parts = [p for p in shapely.get_parts(geometry) if isinstance(p, Polygon)]
    if not parts:
        return Polygon()
    return Polygon(max(parts, key=lambda part: part.area).exterior)


def _blob(
    rng: np.random.Generator, centre: Sequence[float], radius_px: float, waves: int, rough: float
) -> Polygon:
    """A rounded irregular outline."""
    angle = np.linspace(0, 2 * np.pi, 24 * waves, endpoint=False)
    ring = np.ones_like(angle)
    for k in range(2, waves + 2):
        ring += rough * rng.normal() / k**0.8 * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
    ring = np.clip(ring, 0.55, 1.45) * radius_px
    stretch, turn = rng.uniform(0.92, 1.09), rng.uniform(0, np.pi)
    x, y = ring * np.cos(angle) * stretch, ring * np.sin(angle) / stretch
    return _largest(
        Polygon(
            np.column_stack(
                [
                    centre[0] + x * np.cos(turn) - y * np.sin(turn),
                    centre[1] + x * np.sin(turn) + y * np.cos(turn),
                ]
            )
        ).buffer(0)
    )


def _tissue(rng: np.random.Generator, width_px: int, height_px: int) -> Polygon:
    """The outline of the section: most of the slide, uneven, with a glass margin."""
    margin = 0.015 * min(width_px, height_px) + 24.0
    count = max(160, int((width_px + height_px) / 24))
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    wobble = np.zeros(count)
    for k in range(2, min(40, count // 8)):
        wobble += rng.normal() / k * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
    wobble = 1 - 0.1 * (wobble - wobble.min()) / np.ptp(wobble)
    # A superellipse fills the slide better than an ellipse.
    power = 2.0 / rng.uniform(3.0, 4.2)
    cos, sin = np.cos(angle), np.sin(angle)
    x = np.sign(cos) * np.abs(cos) ** power * wobble * (width_px / 2 - margin) + width_px / 2
    y = np.sign(sin) * np.abs(sin) ** power * wobble * (height_px / 2 - margin) + height_px / 2
    section = Polygon(np.column_stack([x, y])).buffer(0)
    return _largest(section.buffer(-20).buffer(40).buffer(-20))


def _centres(rng: np.random.Generator, inner: Polygon) -> Points:
    """Evenly but irregularly spread centres, about one per 1400 x 1400 px."""
    count = max(1, round(inner.buffer(_RIM_PX).area / _PITCH_PX**2))
    x0, y0, x1, y1 = inner.bounds
    cloud = rng.uniform((x0, y0), (x1, y1), (count * 500, 2))
    cloud = cloud[shapely.contains_xy(inner, cloud[:, 0], cloud[:, 1])]
    centres = cloud[rng.choice(len(cloud), count, replace=False)]
    for _ in range(9):
        nearest = spatial.cKDTree(centres).query(cloud)[1]
        hits = np.bincount(nearest, minlength=count)
        sums = np.stack([np.bincount(nearest, cloud[:, k], count) for k in (0, 1)], -1)
        centres = np.where(hits[:, None] > 0, sums / np.maximum(hits, 1)[:, None], centres)
    return np.asarray(centres + rng.normal(0, 60.0, centres.shape))


def _lobule_outlines(rng: np.random.Generator, tissue: Polygon) -> list[Polygon]:
    inner = _largest(tissue.buffer(-_RIM_PX))
    centres = _centres(rng, inner)
    cells = [inner]
    if len(centres) > 1:
        points = shapely.multipoints(centres)
        diagram = shapely.voronoi_polygons(points, extend_to=inner.buffer(4.0 * _PITCH_PX))
        parts = shapely.get_parts(diagram).tolist()
        # The diagram's cells come in no particular order.
        owner, index = shapely.STRtree(shapely.get_parts(points)).query(parts, "contains").tolist()
        own = dict(zip(index, owner, strict=True))
        cells = [_largest(parts[own[k]].intersection(inner)) for k in range(len(centres))]
    outlines = []
    for centre, cell in zip(centres, cells, strict=True):
        radius = rng.uniform(*_LOBULE_RADIUS_PX)
        gap = rng.uniform(*_GAP_PX)
        room = cell.buffer(-gap / 2) if len(centres) > 1 else cell
        shape = _blob(rng, centre.tolist(), radius, 7, 0.11).intersection(room)
        # Rounds the corners without growing beyond the room.
        shape = _largest(_largest(shape).buffer(-70).buffer(70))
        if shape.area > _LEAST_AREA_PX2 and not shape.buffer(-1.2 * _NEST_RADIUS_PX[1]).is_empty:
            outlines.append(_largest(shape.simplify(1.0)))
    return outlines


def _nest_site(rng: np.random.Generator, lobule: Polygon) -> Polygon:
    """A place for a nest, anywhere in the lobule."""
    radius = rng.uniform(*_NEST_RADIUS_PX)
    shape = _blob(rng, (0.0, 0.0), radius, 8, 0.12)
    room = lobule.buffer(-radius)
    x0, y0, x1, y1 = room.bounds
    while True:
        x, y = rng.uniform((x0, y0), (x1, y1))
        if shapely.contains_xy(room, x, y):
            break
    moved = affinity.translate(shape, x, y)
    return _largest(moved.intersection(lobule.buffer(-8)))


def draw_layout(width_px: int, height_px: int, seed: Sequence[int]) -> Layout:
    """Draw the outlines of one slide.

    Everything but the choice of the lobules that hold a nest comes from streams that know
    nothing of that choice. In each slide half of the lobules hold one (rounded up or down by
    chance).

    Args:
        width_px: At least 1024.
        height_px: At least 1024.
        seed: What names the slide.

    Raises:
        UsageError: The slide is too small.
    """
    if min(width_px, height_px) < MIN_SIDE_PX:
        raise UsageError(
            f"sample slide of {width_px} x {height_px} px is too small",
            f"Ask for at least {MIN_SIDE_PX} px each way",
        )
    shapes, sites, glands, choice = (np.random.default_rng([*seed, k]) for k in range(4))
    tissue = _tissue(shapes, width_px, height_px)
    outlines = _lobule_outlines(shapes, tissue)
    holds_nest = np.arange(len(outlines)) < len(outlines) // 2 + (
        len(outlines) % 2 * choice.integers(0, 2)
    )
    holds_nest = choice.permutation(holds_nest)
    lobules = tuple(
        Lobule(outline, _nest_site(sites, outline), bool(nest))
        for outline, nest in zip(outlines, holds_nest, strict=True)
    )
    between = tissue.buffer(-60).difference(MultiPolygon(outlines).buffer(40))
    return Layout(width_px, height_px, tissue, lobules, place_glands(glands, outlines, between))
