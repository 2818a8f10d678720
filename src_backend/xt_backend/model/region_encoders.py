"""Region encoders by name, and from a model's card."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import JsonValue, ValidationError

from xt_backend.errors import ModelError
from xt_backend.model.backbone import Architecture, create_backbone, find_architecture
from xt_backend.model.card import EncoderInfo, ModelCard
from xt_backend.model.region import RegionEncoder, check_sizes
from xt_backend.model.seeding import seeded
from xt_backend.model.weights import load_weights

__all__ = ["build_region_encoder", "encoder_from_card"]


def build_region_encoder(
    name: str,
    *,
    region_px: int,
    input_px: int | None = None,
    tokens_per_region: int | None = 1,
    pooling: Literal["map", "cls", "cls+mean"] = "map",
    weights: str | os.PathLike[str] = "pretrained",
    seed: int = 0,
    revision: str | None = None,
    backbone_args: Mapping[str, JsonValue] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    offline: bool | None = None,
    allow_pickles: bool = True,
) -> RegionEncoder:
    """Build a region encoder.

    Args:
        name: Any timm model, ``hf-hub:owner/name[@revision]``, or a registered backbone.
        region_px: Side of a region at model mpp.
        input_px: Side of a sub-region. None takes the backbone's own size where the region is a
            multiple of it, else the whole region.
        tokens_per_region: k; a region gives k x k tokens. None for 2, or 1 where
            the map has a single place.
        pooling: What they are pooled from: ``map`` (the last map or the patch tokens), ``cls``
            (the class token of each sub-region) or ``cls+mean`` (both, one after the other). Only
            backbones with a class token have the last two.
        weights: ``pretrained``, ``random`` (seeded: the same sha256 every time) or a file.
        seed: For ``random``.
        revision: Commit to take from the hub.
        backbone_args: Further arguments of the architecture, plain JSON values.
        mean: Of RGB in 0 to 1, where the weights' own is not to be taken.
        std: Likewise.
        offline: True never uses the network; None asks HF_HUB_OFFLINE.
        allow_pickles: False takes pretrained weights from safetensors only.

    Returns:
        The encoder in eval mode.

    Raises:
        InputNotFoundError: The weights file does not exist.
        ModelError: Unknown name, sizes that do not fit, or weights that cannot be had.
    """
    weights = weights if weights in ("pretrained", "random") else Path(weights)
    architecture = find_architecture(name, backbone_args, revision=revision, offline=offline)
    if input_px is None:
        native = architecture.native_px
        input_px = native if native and region_px % native == 0 else region_px
    check_sizes(region_px, input_px)
    info = _info(architecture, pooling)
    with seeded(None):
        backbone = create_backbone(architecture, input_px)
    origin = load_weights(
        backbone,
        architecture,
        weights,
        seed=seed,
        offline=offline,
        allow_pickles=allow_pickles,
    )
    encoder = RegionEncoder(
        backbone,
        region_px=region_px,
        input_px=input_px,
        tokens_per_region=tokens_per_region,
        mean=mean or architecture.mean,
        std=std or architecture.std,
        info=info,
        native_px=architecture.native_px,
    )
    encoder.refresh_sha256(
        source=origin.source,
        revision=origin.revision,
        licence=origin.licence,
        citation=origin.citation,
    )
    return encoder


def encoder_from_card(card: ModelCard) -> RegionEncoder:
    """The encoder that a card describes, its weights still to be loaded.

    Nothing is fetched: the card names an architecture, never an address.

    Raises:
        ModelError: This version of timm does not know it, or the sizes do not fit.
    """
    info = card.region_encoder
    architecture = find_architecture(info.name, info.backbone_args, offline=True)
    with seeded(None):
        backbone = create_backbone(architecture, card.input_px)
    return RegionEncoder(
        backbone,
        region_px=card.region_px,
        input_px=card.input_px,
        tokens_per_region=card.tokens_per_region,
        mean=card.mean,
        std=card.std,
        info=info,
        native_px=architecture.native_px,
    )


def _info(architecture: Architecture, pooling: Any) -> EncoderInfo:
    try:
        return EncoderInfo(name=architecture.name, backbone_args=architecture.args, pooling=pooling)
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ModelError(
            f"Arguments of {architecture.name} cannot be used: {problem}",
            "give plain numbers, texts and lists that describe the architecture only",
        ) from error
