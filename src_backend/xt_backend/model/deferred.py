"""A region encoder that is made when the first region needs it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from xt_backend.errors import ModelError
from xt_backend.model.card import EncoderInfo, ModelCard
from xt_backend.model.region import RegionEncoder

__all__ = ["DeferredEncoder"]


class DeferredEncoder(RegionEncoder):
    """Stands for the encoder of a model file until it is needed.

    A run whose regions are all in the store never needs it, and making one takes longer than all
    else such a run does: the library of backbones alone takes seconds to import.

    Args:
        card: Of the model.
        dim: Size D of a token.
        make: Makes the encoder, its weights checked; called at most once.
    """

    def __init__(self, card: ModelCard, dim: int, make: Callable[[], RegionEncoder]) -> None:
        nn.Module.__init__(self)
        self.region_px = card.region_px
        self.input_px = card.input_px
        self.tokens_per_region = card.tokens_per_region
        self.info = card.region_encoder
        self.dim = dim
        self.register_buffer("mean", torch.tensor(card.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(card.std).view(1, 3, 1, 1), persistent=False)
        self._make: Callable[[], RegionEncoder] | None = make
        self._made: list[RegionEncoder] = []  # in a list: it is no part of this module
        self._lock = threading.Lock()
        self.eval()

    def ready(self) -> RegionEncoder:
        """The encoder itself, in eval mode, where this one was moved to.

        Raises:
            ModelError: Its weights do not fit what the card describes.
        """
        with self._lock:
            if self._make is not None:
                with torch.inference_mode(False):  # it may be asked for within, and trained later
                    self._made.append(self._make())
                self._make = None  # lets go of the file's tensors
        return self._made[0].to(self.mean.device)

    def feature_maps(self, regions: Tensor) -> Tensor:
        """As of the encoder."""
        return self.ready().feature_maps(regions)

    def pyramid(self, regions: Tensor) -> list[Tensor]:
        """As of the encoder."""
        return self.ready().pyramid(regions)

    @property
    def pyramid_channels(self) -> tuple[int, ...]:
        """As of the encoder."""
        return self.ready().pyramid_channels

    @property
    def pyramid_sides(self) -> tuple[int, ...]:
        """As of the encoder."""
        return self.ready().pyramid_sides

    def normalise(self, images: Tensor) -> Tensor:
        """As of the encoder."""
        return self.ready().normalise(images)

    def refresh_sha256(self, **changes: Any) -> EncoderInfo:
        """Not possible: the weights are not here."""
        raise ModelError("The model was loaded without its region encoder", "load it whole")
