"""Masks and points of a model beside what was annotated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial import cKDTree

from xt_backend.config import CommonOptions
from xt_backend.engine import BatchDecoder
from xt_backend.engine.extraction import READ_BATCH
from xt_backend.engine.peaks import each_once, points_of
from xt_backend.model import XT, ModelCard
from xt_backend.store import Points

from .pixel_metrics import PixelMetrics, measure_masks, measure_points
from .pixel_targets import IGNORED, HeatTargets, MaskTargets
from .pixels import PixelField, RegionStream, Rows

if TYPE_CHECKING:
    from .dataset import SlideField

__all__ = [
    "MaskJudged",
    "PixelJudged",
    "PointsJudged",
    "fit_point_thresholds",
    "judge_pixels",
    "measure_pixels",
]

LEAST_SCORE = 0.02
"""Lower peaks are no candidates, whatever threshold is fitted."""


@dataclass(frozen=True)
class MaskJudged:
    """The annotated pixels of one slide.

    Attributes:
        counts: (R, C, C + 1) int64 pixels of its R regions: rows true, columns predicted, the last
            column: failed.
    """

    counts: npt.NDArray[np.int64]


@dataclass(frozen=True)
class PointsJudged:
    """The candidates of one slide, from the most certain down, and the objects.

    Attributes:
        scores: (n,) 0 to 1.
        kinds: (n,) channel of each.
        hit: (n,) whether it found an object of its kind that none before it had found.
        n_objects: (K,) objects by kind.
        area_um2: That was searched.
        distance_um: How far a point may lie from its object.
    """

    scores: npt.NDArray[np.float32]
    kinds: npt.NDArray[np.int32]
    hit: npt.NDArray[np.bool_]
    n_objects: npt.NDArray[np.int64]
    area_um2: float
    distance_um: float

    def counts(self, thresholds: Sequence[float]) -> npt.NDArray[np.float64]:
        """(K, 3) points that found an object, points, and objects, from these scores on."""
        n = len(self.n_objects)
        passed = self.scores >= np.asarray(thresholds, np.float32)[self.kinds]
        hits = np.bincount(self.kinds[passed & self.hit], minlength=n)
        points = np.bincount(self.kinds[passed], minlength=n)
        return np.stack([hits, points, self.n_objects], axis=1).astype(np.float64)

    def by_chance(self, thresholds: Sequence[float]) -> npt.NDArray[np.float64]:
        """(K,) objects that as many points would find if they were strewn at random."""
        _, points, objects = self.counts(thresholds).T
        near = np.pi * self.distance_um**2 / max(self.area_um2, np.finfo(np.float64).tiny)
        found: npt.NDArray[np.float64] = np.minimum(points, objects * -np.expm1(-points * near))
        return found


PixelJudged: TypeAlias = MaskJudged | PointsJudged


def judge_pixels(
    model: XT,
    decoder: BatchDecoder,
    field: SlideField,
    options: CommonOptions,
    *,
    context: bool = True,
    distance_um: float | None = None,
) -> PixelJudged:
    """Decode the annotated regions of a slide as `score` does, and compare.

    Args:
        model: A dense or detection model.
        decoder: Runs it.
        field: The slide's features.
        options: How slides are read.
        context: False decodes every region alone.
        distance_um: How far a point may lie from an object; the object's radius when None.
    """
    pixels, targets = field.pixels, field.pixels.targets
    if targets is None:
        raise TypeError("a dense model needs targets of pixels")
    rows = np.flatnonzero(field.scored)
    tokens = np.zeros((len(rows), model.card.context.dim), np.float32)
    if context and len(rows):
        features = torch.from_numpy(field.features[rows]).to(model.device, torch.float32)
        with torch.inference_mode():
            found = model.predict(features, torch.from_numpy(field.positions_um[rows]))
        tokens = found.context_tokens.float().cpu().numpy()
    wanted = targets.known[rows]
    rows, tokens = rows[wanted], tokens[wanted]
    if isinstance(targets, MaskTargets):
        return _judge_masks(model.card, decoder, pixels, targets, rows, tokens, options)
    return _judge_points(model.card, decoder, pixels, targets, rows, tokens, options, distance_um)


def fit_point_thresholds(judged: Sequence[PixelJudged], kinds: Sequence[str]) -> dict[str, float]:
    """The height of peaks that gives the best F1 for every kind; none for a kind without objects.

    Args:
        judged: Slides that were not learnt from.
        kinds: K names.
    """
    points = [one for one in judged if isinstance(one, PointsJudged)]
    thresholds: dict[str, float] = {}
    for kind, name in enumerate(kinds):
        n_objects = sum(int(one.n_objects[kind]) for one in points)
        scores = np.concatenate([one.scores[one.kinds == kind] for one in points])
        hit = np.concatenate([one.hit[one.kinds == kind] for one in points])
        if not n_objects or not hit.any():
            continue
        order = np.argsort(-scores, kind="stable")
        scores = scores[order]
        f1 = 2 * np.cumsum(hit[order]) / (np.arange(1, len(order) + 1) + n_objects)
        # A cut between equal scores cannot be made.
        f1[:-1][scores[:-1] == scores[1:]] = -1.0
        best = int(np.argmax(f1))
        below = float(scores[best + 1]) if best + 1 < len(scores) else LEAST_SCORE
        thresholds[name] = (float(scores[best]) + below) / 2
    return thresholds


def measure_pixels(
    judged: Sequence[PixelJudged],
    card: ModelCard,
    *,
    distance_um: float | None = None,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> PixelMetrics:
    """Measure masks, or points at the card's thresholds."""
    if card.task == "dense":
        counts = [one.counts for one in judged if isinstance(one, MaskJudged)]
        return measure_masks(card.class_names, counts, n_bootstrap=n_bootstrap, seed=seed)
    kinds = card.point_kinds
    thresholds = [card.detection.threshold(kind) for kind in kinds]
    found = [one.counts(thresholds) for one in judged if isinstance(one, PointsJudged)]
    return measure_points(
        kinds,
        np.array(found).reshape(-1, len(kinds), 3),
        distance_um or card.detection.peak_radius_um,
        n_bootstrap=n_bootstrap,
        seed=seed,
    )


def _judge_masks(
    card: ModelCard,
    decoder: BatchDecoder,
    field: PixelField,
    targets: MaskTargets,
    rows: Rows,
    tokens: npt.NDArray[np.float32],
    options: CommonOptions,
) -> MaskJudged:
    n = len(card.classes)
    counts = np.zeros((len(rows), n, n + 1), np.int64)
    done = np.zeros(len(rows), np.bool_)
    for part, pixels in _read(field, rows, options):
        masks = decoder.masks(pixels, tokens[part]).astype(np.int64)
        predicted = np.where(masks == 0, n, masks - 1)
        _count(counts, part, targets.of(field.cells[rows[part]]), predicted)
        done[part] = True
    missing = np.flatnonzero(~done)
    true = targets.of(field.cells[rows[missing]])
    _count(counts, missing, true, np.full(true.shape, n))
    return MaskJudged(counts)


def _count(
    counts: npt.NDArray[np.int64],
    rows: Rows,
    true: npt.NDArray[np.int64],
    predicted: npt.NDArray[np.int64],
) -> None:
    """Add the annotated pixels of some regions."""
    n, width = counts.shape[1:]
    for row, mine, other in zip(rows, true, predicted, strict=True):
        known = mine != IGNORED
        pairs = mine[known] * width + other[known]
        counts[row] += np.bincount(pairs, minlength=n * width).reshape(n, width)


def _judge_points(
    card: ModelCard,
    decoder: BatchDecoder,
    field: PixelField,
    targets: HeatTargets,
    rows: Rows,
    tokens: npt.NDArray[np.float32],
    options: CommonOptions,
    distance_um: float | None,
) -> PointsJudged:
    lattice = field.lattice
    least = [LEAST_SCORE] * len(card.point_kinds)
    parts = [
        points_of(decoder.heat(pixels, tokens[part]), least, lattice, field.cells[rows[part]])
        for part, pixels in _read(field, rows, options)
    ]
    points = each_once(Points.joined(parts), card.detection, lattice)
    points = points.take(targets.within(points.x_px, points.y_px))
    points = points.take(np.argsort(-points.score, kind="stable"))
    within_um = distance_um or card.detection.peak_radius_um
    hit = _match(points, targets, np.array(lattice.slide_mpp), within_um)
    n_objects = np.bincount(targets.place_kinds, minlength=len(card.point_kinds))
    pitch_um = lattice.stride_px * lattice.model_mpp
    area_um2 = float(targets.shares.sum()) * pitch_um**2
    return PointsJudged(points.score, points.kind, hit, n_objects, area_um2, within_um)


def _match(
    points: Points, targets: HeatTargets, mpp: npt.NDArray[np.float64], distance_um: float
) -> npt.NDArray[np.bool_]:
    """From the most certain point down, each takes the nearest object of its kind still free."""
    hit = np.zeros(len(points), np.bool_)
    free = np.ones(len(targets.place_kinds), np.bool_)
    objects_um = targets.places_px * mpp
    places_um = np.stack([points.x_px, points.y_px], axis=1) * mpp
    near = cKDTree(objects_um).query_ball_point(places_um, distance_um) if len(places_um) else []
    for row, candidates in enumerate(near):
        mine = [one for one in candidates if free[one]]
        mine = [one for one in mine if targets.place_kinds[one] == points.kind[row]]
        if not mine:
            continue
        gaps = np.linalg.norm(objects_um[mine] - places_um[row], axis=1)
        free[mine[int(gaps.argmin())]] = False
        hit[row] = True
    return hit


def _read(
    field: PixelField, rows: Rows, options: CommonOptions
) -> Iterator[tuple[Rows, npt.NDArray[np.uint8]]]:
    """Places among rows, and their pixels; regions that cannot be read are left out."""
    with field.open(options) as slide:
        regions = RegionStream(
            slide,
            field,
            rows,
            lambda pixels: pixels,
            at_once=options.batch_size or READ_BATCH,
            threads=options.workers,
        )
        yield from regions.read(np.arange(len(rows)))
