"""What is kept in memory from one run to the next."""

from __future__ import annotations

import contextlib
from collections import deque
from typing import Any

from xt_backend.config import EncodingOptions
from xt_backend.model import XT, ReferenceXT, find_model, load_model

from .device import Device
from .encoder import BatchEncoder
from .encoders import Way
from .encoding import kept_encoders

__all__ = ["Loaded"]


class Loaded:
    """The last model, and its encoder as it was opened, which takes long on some backends."""

    def __init__(self) -> None:
        self._model: tuple[tuple[Any, ...], XT | ReferenceXT] | None = None
        self._idle: deque[BatchEncoder] = deque(maxlen=1)

    def model(self, name: str, device: Device, offline: bool | None = None) -> XT | ReferenceXT:
        """Load a model by name or path, or take the one in memory.

        Args:
            name: As of `find_model`.
            device: Where it goes.
            offline: True never downloads a part that is not embedded.
        """
        path = find_model(name)
        stat = path.stat()
        key = (path, stat.st_mtime_ns, stat.st_size, device.name)
        if self._model is None or self._model[0] != key:
            self._model = None  # frees the old one before the new one is loaded
            self._idle.clear()
            model = load_model(path, offline=offline, defer_encoder=True)
            self._model = (key, model.to(device.name))
        return self._model[1]

    def take_encoder(
        self, model: XT | ReferenceXT, device: Device, way: Way, options: EncodingOptions
    ) -> BatchEncoder:
        """The encoder that was given back last, or one that is made now.

        Whoever takes it has it alone, as runs may go on beside each other.

        Args:
            model: As of `model`.
            device: Where it is.
            way: How to compute.
            options: Say where encoders are kept that take long to make.

        Raises:
            DeviceError: It cannot be computed in this way.
        """
        with contextlib.suppress(IndexError):
            kept = self._idle.pop()
            known = kept.region_encoder is model.region_encoder
            if known and (kept.device, kept.way) == (device, way):
                return kept
        return BatchEncoder(model.region_encoder, device, way, kept_encoders(options))

    def give_back(self, encoder: BatchEncoder) -> None:
        """Keep an encoder of which nothing more is asked; one that failed is better made anew."""
        if self._model is not None and self._model[1].region_encoder is encoder.region_encoder:
            self._idle.append(encoder)
