"""Slides whose regions are read from the file whenever a step needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from xt_backend.config import CommonOptions
from xt_backend.engine import Prepared
from xt_backend.keys import RegionStatus
from xt_backend.slides import (
    Lattice,
    Reader,
    Slide,
    StainNormaliser,
    open_slide,
    stained_colours,
)

from .pixel_targets import PixelTargets
from .truth import Known, RegionLabels, Source, Truth

__all__ = ["Change", "PixelField", "RegionStream"]

Pixels = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]
Change = Callable[[Pixels], Pixels]

ANCHORED = 0.5
"""How often a crop of a detection model is laid around an object."""

KEPT_BYTES = 256 * 2**20
"""Pixels of a field that are kept for the second pass; larger fields are read twice."""


@dataclass(frozen=True)
class PixelField:
    """One slide to learn from, closed.

    Attributes:
        source: The slide and what is known about it.
        identity: Of the slide's content.
        lattice: All region places.
        cells: (N, 2) int32 (col, row) of the selected ones.
        truth: About the N regions, or about the slide.
        normaliser: Of the slide's stain, or None.
        targets: What a decoder shall say of the regions' pixels; None for other tasks.
        labels: Labels for regions elsewhere on the slide; None where regions have none.
        colours: As of `stained_colours`.
    """

    source: Source
    identity: str
    lattice: Lattice
    cells: npt.NDArray[np.int32]
    truth: Truth
    normaliser: StainNormaliser | None
    targets: PixelTargets | None
    labels: RegionLabels | None
    colours: tuple[float, float, float] | None

    @classmethod
    def of(cls, source: Source, prepared: Prepared, known: Known) -> PixelField:
        """Remember what was prepared."""
        return cls(
            source,
            prepared.slide.identity(),
            prepared.lattice,
            prepared.cells,
            known.truth,
            prepared.normaliser,
            known.pixels,
            known.labels,
            stained_colours(prepared.thumbnail),
        )

    @property
    def name(self) -> str:
        """The slide's file name."""
        return self.source.name

    def open(self, options: CommonOptions) -> Slide:
        """Open the slide; close it afterwards."""
        return open_slide(
            self.source.path,
            options.slide_mpp,
            accept_objective_mpp=options.accept_objective_mpp,
        )

    def crop(self, side: int, rng: np.random.Generator) -> Rows:
        """Choose the regions of one view.

        Args:
            side: n of a crop of n x n regions around a labelled one; 0 takes all.
            rng: Draws the crop.

        Returns:
            Places in `cells`, ascending.
        """
        if not side:
            return np.arange(len(self.cells))
        known = self.truth.known
        if self.targets is not None and self.targets.anchors.any() and rng.random() < ANCHORED:
            known = self.targets.anchors
        anchor = self.cells[rng.choice(np.flatnonzero(known))]
        corner = anchor - rng.integers(side, size=2)
        inside = (self.cells >= corner) & (self.cells < corner + side)
        return np.flatnonzero(inside.all(axis=1))

    def parts(self, rows: Rows, k: int) -> Truth:
        """What is known about each of the k x k equal parts of some regions.

        Args:
            rows: (n,) places in `cells`.
            k: Parts along a side.

        Returns:
            Of n * k * k parts, region by region, those of a region in raster order.
        """
        if self.labels is None:
            raise TypeError("nothing is known about parts of these regions")
        side, (row, col) = self.lattice.region_px // k, np.indices((k, k))
        lattice = replace(self.lattice, region_px=side, stride_px=side)
        offsets = np.stack([col.ravel(), row.ravel()], axis=1)
        cells = (self.cells[rows][:, None] * k + offsets).reshape(-1, 2).astype(np.int32)
        return self.labels.truth(self.labels.targets(lattice, cells))

    def moved(self, rows: Rows, shift: tuple[float, float], zoom: float) -> PixelField:
        """The part of the slide that some regions cover, cut into regions elsewhere.

        Args:
            rows: (n,) places in `cells`: regions are taken whose middle lies in one of these.
            shift: By which share of a region, 0 to 1, the new lattice lies further right and
                further down.
            zoom: How much more of the slide each of its regions shows, along a side.

        Returns:
            A field of these regions; of none where there is no room for one.
        """
        old = self.lattice
        scale = [zoom * old.region_px * old.model_mpp / mpp for mpp in old.slide_mpp]
        step_px = [
            min(round(part * side), length - 1)
            for part, side, length in zip(shift, scale, old.extent_px, strict=True)
        ]
        new = replace(
            old,
            origin_px=(old.origin_px[0] + step_px[0], old.origin_px[1] + step_px[1]),
            extent_px=(old.extent_px[0] - step_px[0], old.extent_px[1] - step_px[1]),
            model_mpp=old.model_mpp * zoom,
        )
        cells = new.all_cells()
        boxes = new.boxes(cells)
        middles_px = (boxes[:, :2] + boxes[:, 2:]) / 2 - old.origin_px
        steps_px = np.diag(old.affine_to_level0())[:2]
        homes = np.floor(middles_px / steps_px).astype(np.int64)
        taken = np.zeros((old.n_cols + 2, old.n_rows + 2), np.bool_)
        taken[tuple(self.cells[rows].T)] = True
        inside = (middles_px < old.extent_px).all(axis=1)
        cells = cells[inside & taken[tuple(np.minimum(homes, np.subtract(taken.shape, 1)).T)]]
        truth = self.truth
        if self.labels is not None:
            truth = self.labels.truth(self.labels.targets(new, cells))
        return replace(self, lattice=new, cells=cells, truth=truth)


class RegionStream:
    """Some regions of an open slide, as often as asked, with the same pixels every time.

    Args:
        slide: Open.
        field: The slide's field.
        rows: (n,) places in the field's cells.
        change: Made to the pixels after the stain is normalised.
        at_once: Regions handed out together.
        threads: That read ahead.
    """

    def __init__(
        self,
        slide: Slide,
        field: PixelField,
        rows: Rows,
        change: Change,
        *,
        at_once: int,
        threads: int,
    ) -> None:
        self._slide = slide
        self._field = field
        self._rows = rows
        self._change = change
        self._at_once = at_once
        self._threads = threads
        side = field.lattice.region_px
        keeps = len(rows) * side * side * 3 <= KEPT_BYTES
        self._kept: dict[int, Pixels] | None = {} if keeps else None

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, places: Rows) -> Iterator[tuple[Rows, Pixels]]:
        """Read regions, changed, as (n,) places among `rows` and (n, R, R, 3) uint8.

        Regions that cannot be read are left out.
        """
        kept = self._kept
        if kept is not None and all(int(place) in kept for place in places):
            for first in range(0, len(places), self._at_once):
                part = places[first : first + self._at_once]
                yield part, np.stack([kept[int(place)] for place in part])
            return
        field = self._field
        cells = field.cells[self._rows[places]]
        with Reader(
            self._slide, field.lattice, cells, batch_size=self._at_once, threads=self._threads
        ) as reader:
            for batch in reader:
                good = batch.status != RegionStatus.READ_ERROR
                if not good.any():
                    continue
                pixels = batch.pixels[good]
                if field.normaliser is not None:
                    pixels = field.normaliser(pixels)
                pixels = self._change(pixels)
                part = places[batch.rows[good]]
                if kept is not None:
                    kept.update(zip(part.tolist(), pixels, strict=True))
                yield part, pixels
