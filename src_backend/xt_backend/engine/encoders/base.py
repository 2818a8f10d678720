"""What every encoder backend can do: uint8 regions in, float16 tokens out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Done", "EncoderBackend", "Features", "Pending", "Pixels", "fill_padded"]

Pixels = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float16]


class Pending(Protocol):
    """A batch that is being encoded."""

    def result(self) -> Features:
        """Wait for its tokens, (n, k*k, D) float16; to be asked once.

        Raises:
            OutOfMemoryError: Even one region does not fit on the device.
        """
        ...


class EncoderBackend(Protocol):
    """Computes a region encoder in one way.

    A region gives the same bytes in any company: batches are padded to one size.

    Attributes:
        name: Part of the region store's key, e.g. ``torch-cpu``.
        precision: ``fp32``, ``bf16``, ``fp16`` or ``int8``.
        batch: Regions that are computed together.
        ahead: Batches that may be started before the result of an earlier one is asked for; 0
            where `start` computes.
    """

    name: str
    precision: str
    batch: int
    ahead: int

    def prepare(self) -> None:
        """Make the network, which else waits for the first region.

        Raises:
            Exception: This encoder cannot be computed so, in whatever way.
        """
        ...

    def start(self, pixels: Pixels) -> Pending:
        """Begin to encode a batch.

        Args:
            pixels: (n, R, R, 3) uint8, n from 1 to `batch`; may change when this has returned.

        Raises:
            OutOfMemoryError: Even one region does not fit on the device.
        """
        ...

    def numerics(self) -> dict[str, Any]:
        """What the tokens depend on besides the encoder and the pixels, as plain data."""
        ...


@dataclass(frozen=True)
class Done:
    """A batch that was computed at once."""

    features: Features

    def result(self) -> Features:
        """The tokens."""
        return self.features


def fill_padded(buffer: npt.NDArray[Any], rows: npt.NDArray[Any]) -> None:
    """Put rows into a larger buffer; the first row stands in for those that are missing."""
    buffer[: len(rows)] = rows
    buffer[len(rows) :] = rows[:1]
