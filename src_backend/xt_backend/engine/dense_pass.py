"""The second pass of dense and detection models: regions are read again and decoded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from xt_backend.keys import RegionStatus
from xt_backend.model import XT
from xt_backend.slides import Reader
from xt_backend.store import Points

from .decoder import BatchDecoder
from .device import Device
from .events import RegionsDecoded
from .extraction import READ_BATCH
from .peaks import each_once, points_of
from .preparation import Prepared
from .rows import Rows
from .spec import RunSpec

__all__ = ["DensePass"]


class DensePass:
    """Decodes regions batch by batch; masks are handed on and not kept.

    Args:
        spec: Threads, batch size, and whether the context tokens are used or zeros.
        model: A dense or detection model, on the device.
        device: Where and how precisely to compute.
        prepared: The open slide with its regions.
        rows: The scored regions with their context tokens.
        cancelled: Asked after every batch.

    Attributes:
        seconds_read: What `Reader.seconds` says at the end.
        unreadable: Rows that could not be read this time.
        complete: Whether every region was decoded.
    """

    def __init__(
        self,
        spec: RunSpec,
        model: XT,
        device: Device,
        prepared: Prepared,
        rows: Rows,
        cancelled: Callable[[], bool],
    ) -> None:
        self._spec, self._card, self._prepared = spec, model.card, prepared
        self._decoder = BatchDecoder(model, device)
        known = np.isfinite(rows.context_tokens).all(axis=1)
        scored = np.isin(rows.status, (RegionStatus.OK, RegionStatus.EDGE))
        self._rows: npt.NDArray[np.int64] = np.flatnonzero(known & scored)
        tokens = rows.context_tokens[self._rows]
        self._tokens = tokens if spec.context else np.zeros_like(tokens)
        self._cancelled = cancelled
        self._found: list[Points] = []
        self.seconds_read: dict[str, float] = {}
        self.unreadable: list[int] = []
        self.complete = False

    def events(self) -> Iterator[RegionsDecoded]:
        """Decode; one event a batch."""
        prepared, rows = self._prepared, self._rows
        started, done = time.perf_counter(), 0
        reader = Reader(
            prepared.slide,
            prepared.lattice,
            prepared.cells[rows],
            batch_size=self._spec.batch_size or READ_BATCH,
            threads=self._spec.workers,
        )
        try:
            for batch in reader:
                good = batch.status != RegionStatus.READ_ERROR
                self.unreadable += rows[batch.rows[~good]].tolist()
                done += len(batch.rows)
                if good.any():
                    seconds = time.perf_counter() - started
                    which = batch.rows[good]
                    pixels = batch.pixels[good]
                    if prepared.normaliser is not None:
                        pixels = prepared.normaliser(pixels)
                    yield self._decoded(pixels, which, done, done / seconds)
                if self._cancelled():
                    break
        finally:
            reader.close()
            self.seconds_read = reader.seconds()
        self.complete = done == len(rows)

    @property
    def seconds_decode(self) -> float:
        """Spent in the region encoder and the decoder so far."""
        return self._decoder.seconds

    def points(self) -> Points | None:
        """All points found so far, each object once, also on the borders of regions.

        None for models that make masks.
        """
        if self._card.task != "detection":
            return None
        return self._suppressed(Points.joined(self._found))

    def _decoded(
        self,
        pixels: npt.NDArray[np.uint8],
        which: npt.NDArray[np.int64],
        done: int,
        rate: float,
    ) -> RegionsDecoded:
        rows, tokens, lattice = self._rows[which], self._tokens[which], self._prepared.lattice
        masks = points = None
        if self._card.task == "dense":
            masks = self._decoder.masks(pixels, tokens)
        else:
            found = points_of(
                self._decoder.heat(pixels, tokens),
                [self._card.detection.threshold(kind) for kind in self._card.point_kinds],
                lattice,
                self._prepared.cells[rows],
            )
            self._found.append(found)
            points = self._suppressed(found)
        return RegionsDecoded(
            run_id=self._spec.run_id,
            done=done,
            total=len(self._rows),
            regions_per_s=rate,
            seconds_left=(len(self._rows) - done) / rate,
            cells=self._prepared.cells[rows],
            masks=masks,
            points=points,
        )

    def _suppressed(self, points: Points) -> Points:
        return each_once(points, self._card.detection, self._prepared.lattice)
