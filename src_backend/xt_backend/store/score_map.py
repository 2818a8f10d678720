"""The score map: the result of one run on one slide, as plain data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xt_backend.errors import UsageError
from xt_backend.keys import RegionStatus, RunH5, RunMeta
from xt_backend.publishing import publish_bytes
from xt_backend.slides.lattice import Lattice
from xt_backend.slides.quality import MEASURES
from xt_backend.store.h5 import h5_image, open_checked
from xt_backend.store.labels import probabilities_of, winners
from xt_backend.store.plain import plain_json, writer_version
from xt_backend.store.score_checks import check_values
from xt_backend.store.shard import check_schema

__all__ = ["ScoreMap"]

_BUDGET_BYTES = 4 << 30
_SCORED = [int(status) for status in RegionStatus if status.scored]
_OPTIONAL = (RunH5.SLIDE_LOGITS, RunH5.TISSUE, RunH5.QUALITY, RunH5.QUALITY_MEASURES)
_ARRAYS = ("cells", "status", "logits", "region_only_logits", *_OPTIONAL)
_NEW_STATUSES = (RegionStatus.SCREENED_OUT, RegionStatus.LEFT_OUT, RegionStatus.EXCLUDED)

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ScoreMap:
    """What became of every selected region of a slide.

    Rows without a score, and rows in which any logit is not finite, hold NaN throughout: they
    have no label and are never drawn as a class.

    Attributes:
        slide_id: Name of the slide in all outputs.
        slide_name: The slide's file name, or `slide_id` where names are kept out.
        width_px: Width of level 0.
        height_px: Height of level 0.
        bounds_px: x, y, width, height of the slide's bounds, level-0 px.
        has_bounds: Whether the file states bounds.
        slide_mpp: (x, y) um/px of level 0.
        mpp_source: Where `slide_mpp` comes from.
        lattice: The places of the regions.
        classes: Names of the C classes.
        colors: "#rrggbb" of each class.
        task: "region", "slide", "dense" or "detection".
        temperature: What logits are divided by before the softmax.
        thresholds: Decision threshold (0 to 1) by class name; most classes have none.
        cells: (n, 2) int32 of (col, row).
        status: (n,) uint8, `RegionStatus`.
        logits: (n, C) float32, with context.
        region_only_logits: (n, C) float32, without context.
        slide_logits: (C,) float32 of the whole slide, None for region models.
        partial: Whether the run was not finished.
        model_name: Name of the model.
        model_sha256: SHA-256 of its weights.
        run_meta: Further plain values about the run, brought into JSON's terms; of paths only
            the last name is kept.
        tissue: (n,) float32, share of each region's area that is tissue, 0 to 1; None in files of
            older versions, which did not keep it.
        quality: (n,) uint8, `Doubt`: what is doubtful about each region's picture; None in files of
            older versions, which did not look.
        quality_measures: (n, m) float16 that it follows from, see `slides.quality`; NaN where there
            are none.

    Raises:
        UsageError: Values that do not fit each other.

    Example:
        >>> import xt_backend as xt
        >>> run = xt.score("slide.tiff", model="context-demo", out="results", workers=2)
        >>> found = xt.ScoreMap.load(run.folder / "slide.run.h5")
        >>> found.probabilities.dtype, found.grid(found.probabilities).shape[2]
        (dtype('float32'), 4)
    """

    slide_id: str
    slide_name: str
    width_px: int
    height_px: int
    bounds_px: tuple[int, int, int, int]
    has_bounds: bool
    slide_mpp: tuple[float, float]
    mpp_source: str
    lattice: Lattice
    classes: tuple[str, ...]
    colors: tuple[str, ...]
    task: str
    temperature: float
    thresholds: Mapping[str, float]
    cells: npt.NDArray[np.int32]
    status: npt.NDArray[np.uint8]
    logits: Floats
    region_only_logits: Floats
    slide_logits: Floats | None
    partial: bool
    model_name: str
    model_sha256: str
    run_meta: Mapping[str, Any] = field(default_factory=dict)
    tissue: Floats | None = None
    quality: npt.NDArray[np.uint8] | None = None
    quality_measures: npt.NDArray[np.float16] | None = None

    def __repr__(self) -> str:
        n, n_scored = len(self.cells), int(self.scored.sum())
        what = f"{n_scored} of {n} regions scored{', partial' * self.partial}"
        return f"ScoreMap({self.slide_name!r}, model={self.model_name!r}, {what})"

    def __post_init__(self) -> None:
        n, n_classes = len(self.cells), len(self.classes)
        shapes = {
            "cells": (n, 2),
            "status": (n,),
            "logits": (n, n_classes),
            "region_only_logits": (n, n_classes),
            "slide_logits": (n_classes,),
            "tissue": (n,),
            "quality": (n,),
            "quality_measures": (n, len(MEASURES)),
        }
        dtypes: dict[str, npt.DTypeLike] = {
            "cells": np.int32,
            "status": np.uint8,
            "quality": np.uint8,
            "quality_measures": np.float16,
        }
        for name in _ARRAYS:
            value = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            value = np.asarray(value, dtypes.get(name, np.float32))
            if value.shape != shapes[name]:
                raise UsageError(
                    f"{name} has shape {value.shape} for {n} regions and {n_classes} classes",
                    f"Give {shapes[name]}",
                )
            object.__setattr__(self, name, value)
        object.__setattr__(self, "run_meta", plain_json(self.run_meta, key="run_meta"))
        check_values(self)
        for name in ("logits", "region_only_logits"):
            object.__setattr__(self, name, self._without_unscored(getattr(self, name)))
        if self.slide_logits is not None and not np.isfinite(self.slide_logits).all():
            object.__setattr__(self, "slide_logits", np.full(n_classes, np.nan, np.float32))

    def _without_unscored(self, logits: Floats) -> Floats:
        void = ~(np.isfinite(logits).all(axis=1) & self.scored)
        if not void.any():
            return logits
        logits = logits.copy()
        logits[void] = np.nan
        return logits

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def scored(self) -> npt.NDArray[np.bool_]:
        """(n,) bool: the status says that the region was scored (ok or edge)."""
        return np.isin(self.status, _SCORED)

    @property
    def probabilities(self) -> Floats:
        """(n, C) float32: softmax of logits / temperature, NaN where there is no score."""
        return probabilities_of(self.logits, self.temperature)

    @property
    def region_only_probabilities(self) -> Floats:
        """(n, C) float32: the same without context."""
        return probabilities_of(self.region_only_logits, self.temperature)

    @property
    def slide_probabilities(self) -> Floats | None:
        """(C,) float32 of the whole slide, None for region models."""
        if self.slide_logits is None:
            return None
        probabilities: Floats = probabilities_of(self.slide_logits[None], self.temperature)[0]
        return probabilities

    @property
    def slide_label(self) -> str:
        """The predicted class of the whole slide, "" where there is none."""
        probabilities = self.slide_probabilities
        if probabilities is None:
            return ""
        winner = int(winners(probabilities[None], self._thresholds())[0])
        return self.classes[winner] if winner >= 0 else ""

    @property
    def n_nan(self) -> int:
        """Number of regions whose status says scored but whose logits were not finite."""
        return int((self.scored & np.isnan(self.logits).any(axis=1)).sum())

    @property
    def n_failed(self) -> int:
        """Number of regions that could not be read."""
        return self.status_counts()[RegionStatus.READ_ERROR]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What speaks against the result as a whole."""
        return tuple(str(text) for text in self.run_meta.get(RunMeta.WARNINGS, ()))

    def status_counts(self) -> dict[RegionStatus, int]:
        """Number of regions by status; every status is there."""
        return {status: int((self.status == status).sum()) for status in RegionStatus}

    def labels(self, *, region_only: bool = False) -> npt.NDArray[np.int32]:
        """The predicted class of each region.

        The most probable class; or, where the probability of a class with a threshold reaches
        it, that class; of several such classes the one that is furthest above its threshold.

        Args:
            region_only: Label by the scores without context.

        Returns:
            (n,) int32, -1 where there is no score.
        """
        values = self.region_only_probabilities if region_only else self.probabilities
        return winners(values, self._thresholds())

    def fractions(self, *, region_only: bool = False) -> dict[str, float]:
        """Share of each class in the tissue of all labelled regions, NaN where there is none.

        A region counts with the area of its tissue; overlapping regions count each. Regions that
        were screened out are tissue of no class: the shares of a screened slide fall short of 1 by
        theirs. Of a dense model whose mask was made, the shares are those in the mask, where it
        lies on tissue. Maps of older versions do not know the tissue: there the whole area counts.

        Args:
            region_only: Label by the scores without context; masks always have it.
        """
        for key in (RunMeta.TISSUE_MASK_PX, RunMeta.MASK_PX):
            if not region_only and (mask_px := self.run_meta.get(key)) is not None:
                in_mask = np.array([mask_px[name] for name in self.classes], np.float64)
                return self._shares(in_mask, 0.0)
        boxes = self.lattice.boxes(self.cells)
        area = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).astype(np.float64)
        if self.tissue is not None:
            area *= self.tissue
        labels = self.labels(region_only=region_only)
        labelled = labels >= 0
        total = np.bincount(labels[labelled], area[labelled], minlength=len(self.classes))
        unseen = float(area[self.status == RegionStatus.SCREENED_OUT].sum())
        return self._shares(total.astype(np.float64), unseen)

    def _shares(self, total: npt.NDArray[np.float64], unseen: float) -> dict[str, float]:
        with np.errstate(invalid="ignore"):
            shares = total / (total.sum() + unseen)
        return dict(zip(self.classes, shares.tolist(), strict=True))

    def grid(self, values: npt.NDArray[Any], fill: float | None = None) -> npt.NDArray[Any]:
        """Lay one value per region out on the lattice, one element per cell.

        Args:
            values: (n,) or (n, C), any type.
            fill: Where there is no region; None for NaN, -1 (signed), the largest number
                (unsigned) or False, by type.

        Returns:
            (lattice rows, lattice columns) or (rows, columns, C), type of `values`.
        """
        values = np.asarray(values)
        if fill is None:
            fill = _no_value(values.dtype)
        shape = (self.lattice.n_rows, self.lattice.n_cols, *values.shape[1:])
        grid = np.full(shape, fill, values.dtype)
        grid[self.cells[:, 1], self.cells[:, 0]] = values
        return grid

    def save(self, path: Path) -> None:
        """Publish the score map as ``<id>.run.h5``. No path is in it; equal maps, equal bytes.

        Raises:
            OutputError: It cannot be written.
        """
        datasets: dict[str, npt.NDArray[Any]] = {
            RunH5.CELL: self.cells,
            RunH5.STATUS: self.status,
            RunH5.LOGITS: self.logits,
            RunH5.PROBABILITIES: self.probabilities,
            RunH5.REGION_ONLY_LOGITS: self.region_only_logits,
        }
        for name in _OPTIONAL:
            if (values := getattr(self, name)) is not None:
                datasets[name] = values
        meta = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _ARRAYS}
        meta["lattice"] = self.lattice.to_dict()
        left_out = np.isin(self.status, _NEW_STATUSES).any()
        attrs: dict[str, str | int | float] = {
            RunH5.ATTR_SCHEMA: RunH5.SCHEMA if left_out else RunH5.SCHEMA_ALL_LOOKED_AT,
            RunH5.ATTR_VERSION: writer_version(),
            RunH5.ATTR_META: json.dumps(meta),
        }
        publish_bytes(path, h5_image(datasets, attrs))

    @classmethod
    def load(cls, path: Path) -> ScoreMap:
        """Read what `save` wrote.

        Raises:
            StoreVersionError: It was written by a newer version.
            StoreCorruptError: It is damaged or no score map.
            StoreError: It does not exist or may not be read.
        """
        with open_checked(path, _BUDGET_BYTES) as reader:
            version = reader.attrs.get(RunH5.ATTR_VERSION)
            check_schema(reader.name, reader.attr(RunH5.ATTR_SCHEMA, int), RunH5.SCHEMA, version)
            data = {
                name: reader.read(name, reader.dtypes[name], shape)
                for name, shape in reader.shapes.items()
            }
            reader.check_digest(data)
            try:
                meta = json.loads(reader.attr(RunH5.ATTR_META, str))
                for name in ("bounds_px", "slide_mpp", "classes", "colors"):
                    meta[name] = tuple(meta[name])
                return cls(
                    **{**meta, "lattice": Lattice.from_dict(meta["lattice"])},
                    cells=data[RunH5.CELL],
                    status=data[RunH5.STATUS],
                    logits=data[RunH5.LOGITS],
                    region_only_logits=data[RunH5.REGION_ONLY_LOGITS],
                    slide_logits=data.get(RunH5.SLIDE_LOGITS),
                    tissue=data.get(RunH5.TISSUE),
                    quality=data.get(RunH5.QUALITY),
                    quality_measures=data.get(RunH5.QUALITY_MEASURES),
                )
            except (KeyError, TypeError, ValueError) as error:
                raise reader.corrupt(f"is no score map ({error})") from error

    def _thresholds(self) -> Floats:
        """(C,) threshold by class, NaN where a class has none."""
        return np.array([self.thresholds.get(name, np.nan) for name in self.classes], np.float32)


def _no_value(dtype: np.dtype[Any]) -> float:
    if dtype.kind == "u":
        return int(np.iinfo(dtype).max)
    return {"f": np.nan, "i": -1}.get(dtype.kind, 0)
