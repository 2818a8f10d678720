"""The two streams of xT's training: all regions are context, some teach the region encoder."""

from __future__ import annotations

import contextlib

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from xt_backend.engine import Device
from xt_backend.errors import SlideError, TooManyFailedRegionsError
from xt_backend.model import XT, RegionEncoder
from xt_backend.wording import counted

from .parts import pool_parts
from .pixels import Pixels, RegionStream, Rows

__all__ = ["TwoStreams"]


class TwoStreams:
    """Runs a region encoder over any number of regions, forth and back, at constant memory.

    Forth, chunk after chunk, without keeping activations. Back, those chunks whose regions shall
    teach the encoder are encoded once more and take the gradients of their tokens. Since a region
    has the same tokens in any chunk (the encoder computes as in inference), the sum is the exact
    gradient.

    Args:
        encoder: In eval mode, on the device.
        device: Where, and in which precision the encoder computes.
        checkpoints: Compute activations twice rather than keep them, where the backbone can.
        parts: g of the g x g tokens that a region gives here; the encoder's own k, or a multiple.
    """

    def __init__(
        self, encoder: RegionEncoder, device: Device, *, checkpoints: bool, parts: int
    ) -> None:
        self._encoder = encoder
        self._parts = parts
        self._device = device
        if checkpoints:
            # timm asserts where a backbone cannot.
            with contextlib.suppress(AttributeError, AssertionError, NotImplementedError):
                encoder.backbone.set_grad_checkpointing(True)  # type: ignore[operator]

    def encode(self, pixels: Pixels) -> Tensor:
        """(n, R, R, 3) uint8 to tokens (n, g * g, D) float32, with gradients where enabled."""
        images = torch.from_numpy(pixels).to(self._device.name).permute(0, 3, 1, 2)
        low = self._device.precision != "fp32"
        with torch.autocast(self._device.kind, self._device.dtype, enabled=low):
            if self._parts == self._encoder.tokens_per_region:
                tokens: Tensor = self._encoder(images)
            else:
                maps = self._encoder.feature_maps(images)
                tokens = adaptive_avg_pool2d(maps, self._parts).flatten(2).transpose(1, 2)
        return tokens.float()

    def pool(self, tokens: Tensor) -> Tensor:
        """What `encode` gives, (n, g * g, D), to the encoder's own tokens (n, k * k, D)."""
        return pool_parts(tokens, self._encoder.tokens_per_region)

    def decode(self, pixels: Pixels, context: Tensor, model: XT, *, learns: bool) -> Tensor:
        """Logits (n, channels, R/4, R/4) float32 of a dense model's decoder.

        Args:
            pixels: (n, R, R, 3) uint8.
            context: (n, dim) context tokens.
            model: Whose decoder it is.
            learns: Whether gradients reach the region encoder too.
        """
        if model.dense_head is None:
            raise TypeError("the model has no decoder")
        images = torch.from_numpy(pixels).to(self._device.name).permute(0, 3, 1, 2)
        low = self._device.precision != "fp32"
        with torch.autocast(self._device.kind, self._device.dtype, enabled=low):
            with torch.set_grad_enabled(learns and torch.is_grad_enabled()):
                pyramid = self._encoder.pyramid(images)
            logits: Tensor = model.dense_head(pyramid, context)
        return logits.float()

    @torch.no_grad()
    def forth(
        self, regions: RegionStream, max_failed_fraction: float
    ) -> tuple[Tensor, npt.NDArray[np.bool_]]:
        """Tokens (n, g * g, D) of all regions, and which of them could be read.

        Raises:
            TooManyFailedRegionsError: More than the share that is allowed could not be read.
        """
        n, encoder = len(regions), self._encoder
        shape = (n, self._parts**2, encoder.dim)
        tokens = torch.zeros(shape, device=self._device.name)
        good = np.zeros(n, np.bool_)
        for places, pixels in regions.read(np.arange(n)):
            tokens[torch.from_numpy(places)] = self.encode(pixels)
            good[places] = True
        if n and 1.0 - good.mean() > max_failed_fraction:
            raise TooManyFailedRegionsError(
                f"{n - int(good.sum()):,} of {counted(n, 'region')} could not be read",
                "Get the slide again, or raise --max-failed-fraction",
            )
        return tokens, good

    def back(self, regions: RegionStream, places: Rows, gradients: Tensor) -> None:
        """Add the encoder's gradients.

        Args:
            regions: As in `forth`.
            places: (m,) ascending, of regions that could be read then.
            gradients: (m, g * g, D) of the loss by their tokens.

        Raises:
            SlideError: A region cannot be read any more.
        """
        row_of = np.full(len(regions), -1, np.int64)
        row_of[places] = np.arange(len(places))
        n_done = 0
        for part, pixels in regions.read(places):
            wanted = gradients[torch.from_numpy(row_of[part])]
            torch.autograd.backward(self.encode(pixels), wanted)
            n_done += len(part)
        if n_done < len(places):
            raise SlideError(
                f"{counted(len(places) - n_done, 'region')} could not be read a second time",
                "Check that the slide's disk is there, and train again: training goes on",
            )
