"""Runs the decoder of a dense model over uint8 batches on one device."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from xt_backend.errors import ModelError
from xt_backend.model import XT

from .device import Device
from .encoders import compute_batch, computing, padded_batch, run_halving

__all__ = ["BatchDecoder"]


class BatchDecoder:
    """Region encoder and decoder on a device, with one padded batch shape.

    Args:
        model: A dense or detection model, on the device.
        device: Where and how precisely to compute.

    Attributes:
        seconds: Wall time spent decoding so far.

    Raises:
        ModelError: The model has no decoder.
    """

    def __init__(self, model: XT, device: Device) -> None:
        if model.dense_head is None:
            raise ModelError(
                f"Model {model.card.name} has no decoder", "Use a model of task dense or detection"
            )
        self._device = device
        self._encoder, self._head = model.region_encoder, model.dense_head
        self.seconds = 0.0

    def masks(
        self, pixels: npt.NDArray[np.uint8], context_tokens: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.uint8]:
        """The most probable class of each pixel.

        Args:
            pixels: (n, R, R, 3) uint8.
            context_tokens: (n, dim) float32; zeros decode without context.

        Returns:
            (n, R/4, R/4) uint8: class index + 1, 0 where a logit is not finite. The same row
            gives the same bytes in any company.

        Raises:
            OutOfMemoryError: Even one region does not fit on the device.
        """
        return self._decode(_winners, pixels, context_tokens)

    def heat(
        self, pixels: npt.NDArray[np.uint8], context_tokens: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """Heat maps of the kinds of points.

        Args:
            pixels: As of `masks`.
            context_tokens: As of `masks`.

        Returns:
            (n, K, R/4, R/4) float32 in 0 to 1, NaN where a logit is.

        Raises:
            OutOfMemoryError: As of `masks`.
        """
        return self._decode(torch.sigmoid, pixels, context_tokens)

    def _decode(
        self,
        finish: Callable[[torch.Tensor], torch.Tensor],
        pixels: npt.NDArray[np.uint8],
        context_tokens: npt.NDArray[np.float32],
    ) -> npt.NDArray[Any]:
        start = time.perf_counter()

        def compute(regions: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
            images = regions.to(self._device.name, non_blocking=True).permute(0, 3, 1, 2)
            with computing(self._device):
                pyramid = self._encoder.pyramid(images)
                logits = self._head(pyramid, tokens.to(self._device.name))
                return finish(logits.float())

        parts, size = [], compute_batch(self._device)
        for first in range(0, len(pixels), size):
            some = slice(first, first + size)
            batch = padded_batch(self._device, pixels[some], context_tokens[some])
            found = run_halving(compute, *batch, device=self._device)
            parts.append(found[: len(pixels[some])].cpu().numpy())
        self.seconds += time.perf_counter() - start
        return np.concatenate(parts)


def _winners(logits: torch.Tensor) -> torch.Tensor:
    classes = (logits.argmax(dim=1) + 1).to(torch.uint8)
    return classes.masked_fill(~logits.isfinite().all(dim=1), 0)
