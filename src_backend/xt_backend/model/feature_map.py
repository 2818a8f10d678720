"""The feature maps of a backbone: the last one, and those of all its scales, as (B, C, h, w)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from xt_backend.errors import ModelError
from xt_backend.model.backbone import size_error

__all__ = ["FINEST_STRIDE", "FeatureMap", "Scale"]

FINEST_STRIDE = 4
"""Maps that are finer than this are left out: they are large and say little."""

_Kind = Literal["module", "map", "channels-last", "token grid", "intermediates", "class token"]


@dataclass(frozen=True)
class Scale:
    """One map of a pyramid.

    Attributes:
        index: Of the backbone's stage; -1 for the last map.
        channels: C.
        side: h and w, for one input.
    """

    index: int
    channels: int
    side: int


class FeatureMap:
    """Calls a backbone and brings its feature maps into (B, C, h, w).

    Conv nets and most hierarchical transformers give maps; plain transformers give tokens, whose
    patch tokens are laid out on their grid. Register tokens are always dropped.

    Args:
        backbone: Probed once with a black image, in eval mode.
        input_px: Side of the probe.
        name: For messages.
        native_px: The backbone's own input size, for messages.
        pooling: ``map``: the patch tokens. ``cls``: the class token, as a map of one place.
            ``cls+mean``: the patch tokens, each with the class token before it; their mean is
            what many pathology foundation models call class token and mean.

    Attributes:
        dim: Channels of the last map.
        side: h and w of the last map.

    Raises:
        ModelError: The backbone cannot take that size, gives no map, or has no class token.
    """

    def __init__(
        self,
        backbone: nn.Module,
        input_px: int,
        name: str,
        native_px: int | None,
        pooling: str = "map",
    ) -> None:
        backbone.eval()
        self._input_px = input_px
        self._prefix = 0
        self._norm = False
        self._with_patches = False
        self._scales: tuple[Scale, ...] | None = None
        probe = next(backbone.parameters()).new_zeros(1, 3, input_px, input_px)
        try:
            with torch.no_grad():
                self._kind = self._find_kind(backbone, probe)
                shape = self(backbone, probe).shape
                _check_coverage(backbone, input_px, int(shape[2]))
                if pooling != "map":
                    _check_class_token(backbone, name, pooling)
                    self._kind, self._with_patches = "class token", pooling == "cls+mean"
                    shape = self(backbone, probe).shape
        except ModelError:
            raise
        except Exception as error:  # whatever a third-party forward raises
            raise size_error(name, input_px, native_px, error) from error
        self.dim = int(shape[1])
        self.side = int(shape[2])

    def __call__(self, backbone: Any, images: Tensor) -> Tensor:
        """(B, 3, s, s) to the last map (B, dim, side, side)."""
        if self._kind == "module":
            found: Tensor = backbone(images)
            return found
        if self._kind == "intermediates":
            return self._intermediates(backbone, images, 1)[-1]
        return self._last(backbone.forward_features(images))

    def pyramid(self, backbone: Any, images: Tensor) -> list[Tensor]:
        """(B, 3, s, s) to the maps of `scales`, from one pass; the last is that of a call."""
        finer = [scale.index for scale in self.scales(backbone)[:-1]]
        if not finer:
            return [self(backbone, images)]
        if self._kind == "intermediates":
            return self._intermediates(backbone, images, [*finer, self._n_stages - 1])
        last, maps = backbone.forward_intermediates(
            images, indices=finer, norm=False, output_fmt="NCHW"
        )
        return [*maps, self._last(last)]

    def scales(self, backbone: nn.Module) -> tuple[Scale, ...]:
        """The maps of `pyramid`, finest first: the deepest of each size, the last map at the end.

        Backbones that do not tell their stages have the last map only. Found out with the first
        call, by a probe in eval mode.
        """
        if self._scales is None:
            with _evaluating(backbone), torch.no_grad():
                self._scales = (*self._finer(backbone), Scale(-1, self.dim, self.side))
        return self._scales

    def _finer(self, backbone: Any) -> list[Scale]:
        single = self._kind in ("module", "token grid", "class token")
        if single or not hasattr(backbone, "forward_intermediates"):
            return []
        size = self._input_px
        first = next(backbone.parameters())
        probe = torch.linspace(-1, 1, 3 * size * size, dtype=first.dtype, device=first.device)
        probe = probe.view(1, 3, size, size)
        try:
            maps = self._intermediates(backbone, probe, None)
            if self._kind != "intermediates":
                last, _ = backbone.forward_intermediates(probe, indices=1, output_fmt="NCHW")
                if not torch.equal(self._last(last), self(backbone, probe)):
                    return []
        except (AssertionError, AttributeError, RuntimeError, TypeError, ValueError):
            return []  # the promise of several maps is kept by most of timm, not by all
        self._n_stages = len(maps)
        finest = math.ceil(size / FINEST_STRIDE)
        deepest: dict[int, Scale] = {}
        for index, found in enumerate(maps):
            _, channels, height, width = found.shape
            if height == width and self.side < height <= finest:
                deepest[height] = Scale(index, channels, height)
        return [deepest[side] for side in sorted(deepest, reverse=True)]

    def _intermediates(self, backbone: Any, images: Tensor, which: Any) -> list[Tensor]:
        maps: list[Tensor] = backbone.forward_intermediates(
            images, indices=which, norm=self._norm, output_fmt="NCHW", intermediates_only=True
        )
        return maps

    def _last(self, features: Tensor) -> Tensor:
        """What `forward_features` gives, as a map."""
        if self._kind == "channels-last":
            return features.permute(0, 3, 1, 2)
        if self._kind == "token grid":
            return _grid(features[:, self._prefix :])
        if self._kind == "class token":
            # timm's plain transformers keep it first, then registers, then patches.
            first = features[:, 0, :, None, None]
            if not self._with_patches:
                return first
            patches = _grid(features[:, self._prefix :])
            return torch.cat([first.expand_as(patches), patches], dim=1)
        return features

    def _find_kind(self, backbone: Any, probe: Tensor) -> _Kind:
        features = getattr(backbone, "forward_features", None)
        out = backbone(probe) if features is None else features(probe)
        if not isinstance(out, Tensor) or out.ndim not in (3, 4):
            raise ModelError(
                f"{type(backbone).__name__} gives no single feature map",
                "choose a backbone that does, e.g. swinv2_tiny_window8_256",
            )
        if out.ndim == 3:
            return self._find_token_kind(backbone, probe, out)
        if features is None:
            return "module"
        channels = getattr(backbone, "num_features", out.shape[1])
        last = getattr(backbone, "output_fmt", None) == "NHWC" or (
            out.shape[1] != channels and out.shape[3] == channels
        )
        return "channels-last" if last else "map"

    def _find_token_kind(self, backbone: Any, probe: Tensor, tokens: Tensor) -> _Kind:
        self._prefix = int(getattr(backbone, "num_prefix_tokens", 0))
        side = math.isqrt(tokens.shape[1] - self._prefix)
        if not hasattr(backbone, "forward_intermediates"):
            if side * side != tokens.shape[1] - self._prefix:
                raise ModelError(
                    f"The tokens of {type(backbone).__name__} lie on no square grid",
                    "choose another backbone",
                )
            return "token grid"
        # This also undoes the block order in which Hiera keeps its tokens.
        try:
            self._norm = True
            self._intermediates(backbone, probe, 1)
        except AssertionError:  # some backbones keep their last norm for the classifier
            self._norm = False
        return "intermediates"


def _check_coverage(backbone: nn.Module, input_px: int, side: int) -> None:
    """Refuse sizes whose last pixels the backbone would drop without a word."""
    stages = getattr(backbone, "feature_info", None)
    if not isinstance(stages, list) or not stages:
        return
    reduction = stages[-1].get("reduction", 0)
    if side * reduction < input_px:
        raise ValueError(f"no multiple of the {reduction} px under one place of its last map")


def _check_class_token(backbone: nn.Module, name: str, pooling: str) -> None:
    has_one = bool(getattr(backbone, "has_class_token", True))
    has_one = has_one and isinstance(getattr(backbone, "cls_token", None), Tensor)
    if not has_one or not getattr(backbone, "num_prefix_tokens", 0):
        raise ModelError(
            f"{name} has no class token, so its pooling cannot be {pooling}", "use pooling map"
        )


def _grid(tokens: Tensor) -> Tensor:
    """(B, s * s, C) to (B, C, s, s)."""
    side = math.isqrt(tokens.shape[1])
    return tokens.transpose(1, 2).reshape(len(tokens), -1, side, side)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards every part is in its own mode again."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
