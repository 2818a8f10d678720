"""The whole model of the reference: one crop of a slide in, one set of class logits out."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor, nn

from xt_backend.errors import UsageError
from xt_backend.model.backbone import find_architecture
from xt_backend.model.card import ModelCard
from xt_backend.model.prediction import Prediction
from xt_backend.model.reduce import in_blocks
from xt_backend.model.reference.backbone import LastStage
from xt_backend.model.reference.decoder import Decoder
from xt_backend.model.region import RegionEncoder, cut_regions

__all__ = ["ReferenceXT"]

_REGIONS_AT_ONCE = 32
# One by one: a crop has the same bits in whatever company it comes.
_CROPS_AT_ONCE = 1


class ReferenceXT(nn.Module):
    """A model of layout ``reference``, with the parameter names of the reference.

    It classifies crops of n x n regions. To whoever scores a slide a crop is one region of n x n
    sub-regions that is a field of its own, so it offers what `XT` offers there: `region_encoder`,
    `reduce`, `region_only` and `predict_reduced`.

    Args:
        card: Of layout ``reference``.

    Attributes:
        encoder: The backbone.
        decoder: Everything after it.
        has_region_only: False: the reference has no head that sees each region by itself.

    Raises:
        ModelError: The card names a backbone or sizes that do not exist.
    """

    has_region_only = False

    def __init__(self, card: ModelCard) -> None:
        super().__init__()
        self.card = card
        info = card.region_encoder
        architecture = find_architecture(info.name, info.backbone_args, offline=True)
        self.encoder = LastStage(architecture, card.input_px)
        self.decoder = Decoder(self.encoder.dim, len(card.classes), card.context)
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where the weights live."""
        return self.decoder.cls_token.device

    @cached_property
    def region_encoder(self) -> RegionEncoder:
        """The backbone as an encoder of whole crops, which gives all places of their maps.

        Shares the weights; made when first asked for.
        """
        card = self.card
        return RegionEncoder(
            self.encoder,
            region_px=card.scored_px,
            input_px=card.input_px,
            tokens_per_region=self.encoder.side * (card.scored_px // card.input_px),
            mean=card.mean,
            std=card.std,
            info=card.region_encoder,
        )

    def forward(self, image: Tensor) -> Tensor:
        """Classify images, each as one crop.

        Args:
            image: (B, 3, H, W) float, already normalised; H and W multiples of region_px.

        Returns:
            Logits (B, C).

        Raises:
            UsageError: Another shape.
        """
        batch = len(image)
        regions, rows, cols = cut_regions(image, self.card.region_px)
        parts = torch.split(regions, _REGIONS_AT_ONCE)
        maps = torch.cat([self.encoder(part) for part in parts])
        _, dim, h, w = maps.shape
        maps = maps.reshape(batch, rows, cols, dim, h, w).permute(0, 3, 1, 4, 2, 5)
        logits: Tensor = self.decoder(maps.reshape(batch, dim, rows * h, cols * w))
        return logits

    def classify(self, features: Tensor) -> Tensor:
        """Logits of crops from their features; equal in whatever company they come.

        Args:
            features: (N, k * k, D) float: k x k places of the stitched map in raster order.

        Returns:
            (N, C) float32, NaN where features are not finite.
        """
        features = features.to(self.decoder.cls_token)
        side = self.region_encoder.tokens_per_region
        if tuple(features.shape[1:]) != (side * side, self.encoder.dim):
            raise UsageError(
                f"features must be (N, {side * side}, {self.encoder.dim}), not "
                f"{tuple(features.shape)}"
            )
        maps = features.transpose(1, 2).reshape(len(features), -1, side, side)
        return in_blocks(self.decoder, maps, size=_CROPS_AT_ONCE).float()

    def reduce(self, features: Tensor) -> Tensor:
        """What is kept of crops until the slide is complete: (N, k * k, D) to logits (N, 1, C)."""
        return self.classify(features).unsqueeze(1)

    def region_only(self, tokens: Tensor) -> Tensor:
        """What can be shown of crops before the slide is complete: (N, 1, C) to logits (N, C)."""
        return tokens[:, 0]

    def predict_reduced(self, tokens: Tensor, positions_um: Tensor) -> Prediction:
        """The prediction of a slide's crops, none of which sees another.

        Args:
            tokens: (N, 1, C), what `reduce` gives.
            positions_um: (N, 2), not used.
        """
        logits = tokens[:, 0].float()
        return Prediction(logits, torch.full_like(logits, torch.nan), logits[:, :0])

    def predict(self, features: Tensor, positions_um: Tensor) -> Prediction:
        """`predict_reduced` from features (N, k * k, D)."""
        return self.predict_reduced(self.reduce(features), positions_um)
