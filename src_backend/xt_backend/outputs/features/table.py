"""The features of one slide, as every layout gets them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from xt_backend.keys import RegionStatus
from xt_backend.slides.lattice import Lattice
from xt_backend.store import Blocks, FeatureRows, ScoreMap, parts

__all__ = ["FeatureKind", "FeatureTable", "Level", "When"]

Level: TypeAlias = Literal["region", "slide"]
When: TypeAlias = Literal["before", "after"]

_SCORED = [int(status) for status in RegionStatus if status.scored]


@dataclass(frozen=True)
class FeatureKind:
    """What a run's feature files have in common, and are named by.

    Attributes:
        encoder: Name of what made the features: the region encoder, or after context the model.
        model_mpp: um/px at which regions are read.
        region_px: Side of a region at `model_mpp`.
        stride_px: Step between regions at `model_mpp`.
        level: One row a ``region``, or one for the whole ``slide``.
        when: ``before`` or ``after`` the context encoder.
    """

    encoder: str
    model_mpp: float
    region_px: int
    stride_px: int
    level: Level = "region"
    when: When = "before"

    @property
    def encoder_folder(self) -> str:
        """The encoder's name as a part of a folder's name."""
        return re.sub(r"[^\w.+-]+", "-", self.encoder).strip("-.") or "encoder"

    @property
    def prefix(self) -> str:
        """What tells this kind from a region's features before context in names of files."""
        return "slide-" * (self.level == "slide") + "context-" * (self.when == "after")


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """Features of a slide's selected regions.

    Attributes:
        slide_id: Name of the slide in all outputs.
        size_px: (width, height) of level 0.
        lattice: The places of the regions.
        cells: (n, 2) int32 (col, row).
        status: (n,) uint8 of `RegionStatus`.
        features: (n, k*k, D) float16 or float32; zeros where the region could not be read. An
            array, or rows on a disk: whoever writes them holds a block at a time.
        numerics: What the features depend on besides pixels.
        encoder: Name of what made them, see `FeatureKind`.
        tissue: (n,) float32, share of each region's area that is tissue; None if unknown.
        level: What the file is to hold.
        when: Before or after the context encoder.
        whole: (D,) float32, what the model itself makes of the slide; None for the mean over the
            regions.
        score_map: The predictions of the same run, row by row; None where there are none.
    """

    slide_id: str
    size_px: tuple[int, int]
    lattice: Lattice
    cells: npt.NDArray[np.int32]
    status: npt.NDArray[np.uint8]
    features: FeatureRows
    numerics: dict[str, Any]
    encoder: str
    tissue: npt.NDArray[np.float32] | None = None
    level: Level = "region"
    when: When = "before"
    whole: npt.NDArray[np.float32] | None = None
    score_map: ScoreMap | None = None

    @property
    def kind(self) -> FeatureKind:
        """What the table has in common with those of other slides."""
        lattice = self.lattice
        return FeatureKind(
            self.encoder,
            lattice.model_mpp,
            lattice.region_px,
            lattice.stride_px,
            self.level,
            self.when,
        )

    @cached_property
    def rows(self) -> npt.NDArray[np.int64]:
        """(m,) places of the regions that have features: read, and finite throughout."""
        scored = np.flatnonzero(np.isin(self.status, _SCORED))
        finite = [
            part[np.isfinite(self.features[part]).all(axis=(1, 2))] for part in self._parts(scored)
        ]
        return np.concatenate([scored[:0], *finite])

    @cached_property
    def boxes(self) -> npt.NDArray[np.int64]:
        """(m, 4) x0, y0, x1, y1 of `rows`, level-0 px in OpenSlide's frame."""
        return self.lattice.boxes(self.cells[self.rows])

    @property
    def dim(self) -> int:
        """D, the length of a token."""
        return self.features.shape[2]

    @property
    def vectors(self) -> Blocks:
        """(m, D) float32 of `rows`: the mean of a region's tokens."""

        def blocks() -> Iterator[npt.NDArray[np.float32]]:
            for part in self._parts(self.rows):
                yield self.features[part].mean(axis=1, dtype=np.float32)

        return Blocks((len(self.rows), self.dim), np.dtype(np.float32), blocks)

    @property
    def matrix(self) -> Blocks:
        """One row a region, (m, D), or one for the slide, (1, D), (0, D) without any region."""
        if self.level == "region" or not len(self.rows):
            return self.vectors
        return Blocks((1, self.dim), np.dtype(np.float32), lambda: iter([self._of_slide[None]]))

    @property
    def squeezed(self) -> Blocks | npt.NDArray[np.float32]:
        """`matrix`, but (D,) for a slide that has regions."""
        return self._of_slide if self.level == "slide" and len(self.rows) else self.matrix

    @cached_property
    def _of_slide(self) -> npt.NDArray[np.float32]:
        if self.whole is not None:
            return self.whole.astype(np.float32)
        total = np.zeros(self.dim, np.float64)
        for block in self.vectors:
            total += block.sum(axis=0, dtype=np.float64)
        return (total / len(self.rows)).astype(np.float32)

    def _parts(self, rows: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
        # As float32, which their means are computed in.
        return parts(rows, 4 * self.features.shape[1] * self.dim)

    @property
    def region_level0_px(self) -> int:
        """Side of a region in level-0 px, rounded."""
        return round(self.lattice.region_px * self.lattice.model_mpp / self.slide_mpp)

    @property
    def slide_mpp(self) -> float:
        """um/px of level 0, the mean of both axes."""
        return sum(self.lattice.slide_mpp) / 2

    def about(self) -> dict[str, Any]:
        """What a reader has to know, as plain values; no path is among them."""
        return {
            "slide": self.slide_id,
            "encoder": self.encoder,
            "level": self.level,
            "context": self.when,
            "frame": "level-0 px, bounds not subtracted",
            "size_px": list(self.size_px),
            "lattice": self.lattice.to_dict(),
            "numerics": self.numerics,
        }
