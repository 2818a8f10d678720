"""The region encoder: from the pixels of a region to its k x k tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import JsonValue
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from xt_backend.errors import ModelError, UsageError
from xt_backend.model.card import EncoderInfo
from xt_backend.model.feature_map import FeatureMap
from xt_backend.model.state import state_sha256

__all__ = ["RegionEncoder", "check_sizes", "cut_regions"]


DEFAULT_TOKENS = 2
"""k of models that are trained here: a quarter of a region shows what its mean hides."""


class RegionEncoder(nn.Module):
    """Cuts regions into sub-regions, encodes each, stitches the maps and pools them to tokens.

    In eval mode after construction.

    Args:
        backbone: The vision backbone.
        region_px: Side of a region.
        input_px: Side of a sub-region; m = region_px / input_px of them lie along a side.
        tokens_per_region: k; None for `DEFAULT_TOKENS`, or 1 where the map has a single place.
        mean: Subtracted from RGB in 0 to 1.
        std: Divides RGB after that.
        info: For the model card; says how tokens are pooled.
        native_px: The backbone's own input size, for messages.

    Attributes:
        dim: Size D of a token.

    Raises:
        ModelError: The sizes do not fit each other or the backbone.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        *,
        region_px: int,
        input_px: int,
        tokens_per_region: int | None,
        mean: Sequence[float],
        std: Sequence[float],
        info: EncoderInfo,
        native_px: int | None = None,
    ) -> None:
        super().__init__()
        check_sizes(region_px, input_px)
        self.backbone = backbone
        self.region_px = region_px
        self.input_px = input_px
        self.info = info
        self._map = FeatureMap(backbone, input_px, info.name, native_px, info.pooling)
        self.dim = self._map.dim
        stitched = self._map.side * (region_px // input_px)
        if tokens_per_region is None:
            tokens_per_region = min(DEFAULT_TOKENS, stitched)
        if not 1 <= tokens_per_region <= stitched:
            raise ModelError(
                f"{tokens_per_region} x {tokens_per_region} tokens cannot be pooled from a map of "
                f"{stitched} x {stitched}",
                f"use tokens_per_region 1 to {stitched}",
            )
        self.tokens_per_region = tokens_per_region
        # Not persistent: the card holds them.
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.eval()

    def ready(self) -> RegionEncoder:
        """The encoder with its weights: this one."""
        return self

    def forward(self, regions: Tensor) -> Tensor:
        """Encode regions.

        Args:
            regions: (B, 3, R, R) RGB with R = region_px; uint8, or float already normalised.

        Returns:
            (B, k * k, D) float, raster order.

        Raises:
            UsageError: Another shape.
        """
        return self.tokens(self.feature_maps(regions))

    def tokens(self, maps: Tensor) -> Tensor:
        """Pool stitched last maps: (B, D, m * h, m * h) to (B, k * k, D), raster order."""
        return adaptive_avg_pool2d(maps, self.tokens_per_region).flatten(2).transpose(1, 2)

    def feature_maps(self, regions: Tensor) -> Tensor:
        """The stitched last maps: (B, 3, R, R) to (B, D, m * h, m * h)."""
        self._check_regions(regions)
        if regions.shape[0] == 0:
            side = self._map.side * self._m
            return self.mean.new_zeros(0, self.dim, side, side)
        return self._stitch(self._map(self.backbone, self._sub_regions(regions)))

    def pyramid(self, regions: Tensor) -> list[Tensor]:
        """The stitched maps of all scales from stride 4 on, from one pass.

        Args:
            regions: As of `forward`.

        Returns:
            (B, C, h, h) for each of `pyramid_channels` and `pyramid_sides`, finest first. The
            last is what `feature_maps` gives; `tokens` pools it. Backbones with one scale (plain
            transformers, registered ones) give that alone.

        Raises:
            UsageError: Another shape.
        """
        self._check_regions(regions)
        if regions.shape[0] == 0:
            sizes = zip(self.pyramid_channels, self.pyramid_sides, strict=True)
            return [self.mean.new_zeros(0, channels, side, side) for channels, side in sizes]
        maps = self._map.pyramid(self.backbone, self._sub_regions(regions))
        return [self._stitch(one) for one in maps]

    @property
    def pyramid_channels(self) -> tuple[int, ...]:
        """Channels of each map of `pyramid`."""
        return tuple(scale.channels for scale in self._map.scales(self.backbone))

    @property
    def pyramid_sides(self) -> tuple[int, ...]:
        """Height and width of each map of `pyramid`."""
        return tuple(scale.side * self._m for scale in self._map.scales(self.backbone))

    @property
    def _m(self) -> int:
        """Sub-regions along a side."""
        return self.region_px // self.input_px

    def _check_regions(self, regions: Tensor) -> None:
        side = self.region_px
        if regions.ndim != 4 or regions.shape[1:] != (3, side, side):
            raise UsageError(f"regions must be (B, 3, {side}, {side}), not {tuple(regions.shape)}")

    def _sub_regions(self, regions: Tensor) -> Tensor:
        """(B, 3, R, R) to normalised (B * m * m, 3, s, s)."""
        m, s = self._m, self.input_px
        parts = regions.reshape(-1, 3, m, s, m, s).permute(0, 2, 4, 1, 3, 5).reshape(-1, 3, s, s)
        return self.normalise(parts)

    def _stitch(self, maps: Tensor) -> Tensor:
        """(B * m * m, C, h, h) to (B, C, m * h, m * h)."""
        m = self._m
        _, dim, h, w = maps.shape
        maps = maps.reshape(-1, m, m, dim, h, w).permute(0, 3, 1, 4, 2, 5)
        return maps.reshape(-1, dim, m * h, m * w)

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 RGB to what the backbone wants; float only changes to its dtype."""
        if images.dtype == torch.uint8:
            images = (images.to(self.mean.dtype) / 255 - self.mean) / self.std
        return images.to(next(self.backbone.parameters()).dtype)

    def numerics(self) -> dict[str, JsonValue]:
        """What decides the values of the tokens, for the key of the region store.

        `info.sha256` is trusted: call `refresh_sha256` after the weights have changed.
        """
        return {
            "encoder": self.info.name,
            "encoder_args": dict(self.info.backbone_args),
            "weights_sha256": self.info.sha256,
            "input_px": self.input_px,
            "region_px": self.region_px,
            "tokens_per_region": self.tokens_per_region,
            "pooling": self.info.pooling,
            "mean": [round(value, 7) for value in self.mean.flatten().tolist()],
            "std": [round(value, 7) for value in self.std.flatten().tolist()],
        }

    def refresh_sha256(self, **changes: Any) -> EncoderInfo:
        """Hash the weights anew and keep the result in `info`.

        Args:
            changes: Other fields of `info` that change, e.g. ``source="trained"``.
        """
        changes["sha256"] = state_sha256(self)
        self.info = self.info.model_copy(update=changes)
        return self.info

    @torch.no_grad()
    def round_to_half(self) -> None:
        """Round all weight matrices and kernels to values that float16 can hold.

        Done before the first feature is computed, this halves the model file at no loss: what
        `save_model` finds to be float16 values is stored as such, and loaded as the same float32.
        """
        for parameter in self.parameters():
            rounded = parameter.to(torch.float16).to(parameter.dtype)
            if parameter.ndim >= 2 and bool(rounded.isfinite().all()):
                parameter.copy_(rounded)
        self.refresh_sha256()


def cut_regions(image: Tensor, region_px: int) -> tuple[Tensor, int, int]:
    """Cut images into regions.

    Args:
        image: (B, 3, H, W), H and W multiples of `region_px`.
        region_px: Side of a region.

    Returns:
        Regions (B * rows * cols, 3, region_px, region_px) in raster order, rows and cols.

    Raises:
        UsageError: Another shape.
    """
    good = image.ndim == 4 and image.shape[1] == 3
    if not good or any(length % region_px or not length for length in image.shape[2:]):
        raise UsageError(
            f"image must be (B, 3, H, W) with H and W multiples of {region_px}, not "
            f"{tuple(image.shape)}"
        )
    batch, _, height, width = image.shape
    rows, cols = height // region_px, width // region_px
    regions = image.reshape(batch, 3, rows, region_px, cols, region_px).permute(0, 2, 4, 1, 3, 5)
    return regions.reshape(-1, 3, region_px, region_px), rows, cols


def check_sizes(region_px: int, input_px: int) -> None:
    """Raise `ModelError` unless a region is a whole number of sub-regions wide."""
    if input_px < 1 or region_px < 1 or region_px % input_px:
        raise ModelError(
            f"A region of {region_px} px is not a multiple of the encoder's input of {input_px} px",
            f"use a region_px of {max(input_px, 1)}, {2 * max(input_px, 1)}, ... or another "
            "input_px",
        )
