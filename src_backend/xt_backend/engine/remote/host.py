"""The worker on another machine: encodes pixels that it is sent, or reads the slide itself."""

from __future__ import annotations

import platform
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from xt_backend.errors import EngineError, SlideError, XTError
from xt_backend.keys import RegionStatus
from xt_backend.model import RegionEncoder, find_model, load_model, read_card
from xt_backend.slides import Reader, Slide, open_slide, quality

from ..device import Device, choose_device
from ..encoder import BatchEncoder
from ..encoders import Features, Pixels, known_choice, usual_way
from ..installed import versions
from .messages import Looked, OpenedEncoder, Place, SlideThere

__all__ = ["Host"]

_READ = 16
"""Regions between two looks at whether anybody still wants them."""


@dataclass(frozen=True)
class _Open:
    slide: Slide
    there: SlideThere


class Host:
    """One model and the slide of one run; its methods are called from several threads."""

    def __init__(self) -> None:
        self._model: tuple[str, RegionEncoder] | None = None
        self._encoder: BatchEncoder | None = None
        self._encoding = threading.Lock()
        self._slides: dict[str, _Open] = {}
        self._ended: set[str] = set()

    def place(self) -> Place:
        """Where this is."""
        return Place(platform.node(), versions())

    def device(self, asked: str, precision: str) -> Device:
        """As of `choose_device`, here."""
        return choose_device(asked, precision)

    def has_model(self, sha256: str, name: str) -> bool:
        """Take up a model that is here.

        Args:
            sha256: Of its tensors.
            name: That a model which comes with the package may have.

        Returns:
            Whether it is; else `put_model` brings it.
        """
        if self._model is not None and self._model[0] == sha256:
            return True
        try:
            path = find_model(name)
            if read_card(path).state_sha256 != sha256:
                return False
        except XTError:
            return False
        self._take(path, sha256, offline=None)
        return True

    def put_model(self, sha256: str, content: bytes, offline: bool | None) -> None:
        """Take up a model that is not here.

        Args:
            sha256: Of its tensors.
            content: Of its file.
            offline: True never downloads a part that is not embedded.

        Raises:
            ModelError: It is none.
        """
        with tempfile.TemporaryDirectory(prefix="xt-model-") as folder:
            path = Path(folder) / "model.safetensors"
            path.write_bytes(content)
            self._take(path, sha256, offline)

    def _take(self, path: Path, sha256: str, offline: bool | None) -> None:
        with self._encoding:
            self._encoder = self._model = None  # frees the old one before the new one is loaded
            model = load_model(path, offline=offline, defer_encoder=True)
            self._model = sha256, model.region_encoder.ready()

    def encoder(self, sha256: str, asked: str, device: str, precision: str) -> OpenedEncoder:
        """Open the encoder of the model: as asked for, as was found out here, or as is usual.

        Args:
            sha256: Of the model's tensors.
            asked: Backend as asked for.
            device: As asked for.
            precision: As asked for.

        Raises:
            DeviceError: What was asked for cannot be had.
        """
        where = choose_device(device, precision)
        known = known_choice({"model": sha256}, where, asked, precision)
        way = usual_way(where) if known is None else known.way
        with self._encoding:
            encoder = self._encoder
            if encoder is None or (encoder.device, encoder.way) != (where, way):
                self._encoder = encoder = BatchEncoder(self._weights(sha256), where, way)
            backend = encoder.backend
            return OpenedEncoder(where, way, backend.numerics(), encoder.in_flight)

    def _weights(self, sha256: str) -> RegionEncoder:
        if self._model is None or self._model[0] != sha256:
            raise EngineError("The worker has another model by now", "Run again")
        return self._model[1]

    def prepare(self) -> bool:
        """Do what else the first region would wait for."""
        with self._encoding:
            self._ready().prepare()
        return True

    def _ready(self) -> BatchEncoder:
        if self._encoder is None:
            raise EngineError("The worker has no model any more", "Run again")
        return self._encoder

    def begin(self, run_id: str, there: SlideThere) -> str:
        """Open the slide of a run; all other slides are closed.

        Returns:
            Why it cannot be read here; empty where it can.
        """
        for other in list(self._slides):
            self.end(other)
        self._ended.discard(run_id)
        try:
            slide = open_slide(
                there.path, there.slide_mpp, accept_objective_mpp=there.accept_objective_mpp
            )
        except SlideError:
            return "it does not see the slide"
        try:
            if slide.identity() != there.identity:
                slide.close()
                return "it sees another file in the slide's place"
        except SlideError:
            slide.close()
            return "it cannot read the slide"
        self._slides[run_id] = _Open(slide, there)
        return ""

    def end(self, run_id: str) -> None:
        """Do nothing more for a run."""
        self._ended.add(run_id)
        opened = self._slides.pop(run_id, None)
        if opened is not None:
            opened.slide.close()

    def encode(self, run_id: str, pixels: Pixels) -> Features | None:
        """Encode regions.

        Args:
            run_id: Names the run.
            pixels: (n, R, R, 3) uint8.

        Returns:
            (n, k*k, D) float16; None where the run has ended meanwhile.
        """
        with self._encoding:
            if run_id in self._ended:
                return None
            return self._ready().encode(np.ascontiguousarray(pixels))

    def look(self, run_id: str, cells: npt.NDArray[np.int32], measured: bool) -> Looked | None:
        """Read and encode regions of the run's slide.

        Args:
            run_id: Names the run.
            cells: (n, 2) int32 (col, row).
            measured: Whether their quality is wanted.

        Returns:
            None where the run has ended meanwhile.

        Raises:
            SlideChangedError: The slide is not the same any more.
        """
        opened = self._slides.get(run_id)
        if opened is None:
            return None
        found = self._read(run_id, opened, cells)
        if found is None:
            return None
        pixels, status = found
        opened.slide.check_unchanged()
        there = opened.there
        measures = None
        if measured:
            lattice = there.lattice
            measures = quality.measure(pixels, lattice.model_mpp, max(lattice.slide_mpp))
            measures[status == RegionStatus.READ_ERROR] = np.nan
        good = status != RegionStatus.READ_ERROR
        if not good.any():
            return Looked(status, None, measures)
        wanted = pixels if good.all() else pixels[good]
        if there.normaliser is not None:
            wanted = there.normaliser(wanted)
        features = self.encode(run_id, wanted)
        return None if features is None else Looked(status, features, measures)

    def _read(
        self, run_id: str, opened: _Open, cells: npt.NDArray[np.int32]
    ) -> tuple[Pixels, npt.NDArray[np.uint8]] | None:
        there = opened.there
        parts: list[Pixels] = []
        statuses: list[npt.NDArray[np.uint8]] = []
        with Reader(
            opened.slide, there.lattice, cells, batch_size=_READ, threads=there.workers
        ) as reader:
            for batch in reader:
                parts.append(batch.pixels)
                statuses.append(batch.status)
                if run_id in self._ended:
                    return None
        return np.concatenate(parts), np.concatenate(statuses)

    def method(self, name: str) -> Callable[..., object]:
        """One of the methods that a run may ask for, by name.

        Raises:
            EngineError: There is none of this name.
        """
        if name.startswith("_") or not callable(getattr(self, name, None)):
            raise EngineError(
                f"A worker does not know {name}", "Install the same napari-xt everywhere"
            )
        found: Callable[..., object] = getattr(self, name)
        return found
