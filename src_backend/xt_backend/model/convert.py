"""From checkpoints of the xT reference implementation to models of layout ``reference``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue, ValidationError
from torch import Tensor

from xt_backend.errors import InputNotFoundError, ModelError
from xt_backend.keys import DEFAULT_COLORS
from xt_backend.model.backbone import REGION_ENCODERS, find_architecture
from xt_backend.model.card import ClassInfo, ContextInfo, EncoderInfo, ModelCard, ReduceInfo
from xt_backend.model.files import save_model
from xt_backend.model.header import file_sha256
from xt_backend.model.reference.backbone import LastStage
from xt_backend.model.reference.decoder import KINDS
from xt_backend.model.reference.state import load_exactly, parameter, without_prefix
from xt_backend.model.reference.xt import ReferenceXT
from xt_backend.model.weights import read_tensors

__all__ = ["DEFAULT_CROP_REGIONS", "convert_checkpoint"]

DEFAULT_CROP_REGIONS = 2
"""Regions along the side of a crop where nothing else is said: the paper's 512/256."""

_WHAT = "checkpoint"
# Tables that older versions of timm kept beside the weights; they follow from the sizes.
_DERIVED = ("relative_position_index", "relative_coords_table", "attn_mask")
_CITATION = "Gupta et al., xT: Nested Tokenization for Larger Context in Large Images, ICML 2024"


def convert_checkpoint(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    backbone: str,
    region_px: int,
    context: str,
    backbone_args: Mapping[str, JsonValue] | None = None,
    crop_px: int | None = None,
    model_mpp: float | None = None,
    classes: Sequence[str] | None = None,
) -> ModelCard:
    """Write a checkpoint of the xT reference as a model file of layout ``reference``.

    Classes, sizes and the number of layers come from the weights.

    Args:
        source: Pickled checkpoint, which is read with weights_only in a process of its own, or
            safetensors; names with or without the prefix ``module.``.
        target: Model file to write; its stem becomes the model's name.
        backbone: timm name of the backbone.
        region_px: Side of the backbone's input.
        context: ``hyper`` or ``mamba``.
        backbone_args: Further arguments of the backbone that it was trained with.
        crop_px: Side of what a slide is cut into for `score`, a multiple of `region_px`; None for
            2 x 2 regions.
        model_mpp: um/px that it was trained at; None leaves it to `score`.
        classes: Names in the order of the logits; None for class_0, class_1, ...

    Returns:
        The card as written.

    Raises:
        InputNotFoundError: There is no such checkpoint.
        ModelError: It cannot be read, or does not fit what was said about it.
        OutputError: The model cannot be written.
    """
    source, target = Path(source), Path(target)
    if not source.is_file():
        raise InputNotFoundError(f"There is no checkpoint {source.name}", "check the path")
    if backbone in REGION_ENCODERS:
        raise ModelError(f"{backbone} is no backbone of timm", "name the one of the checkpoint")
    if target.suffix != ".safetensors":
        raise ModelError(
            f"{target.name} does not end in .safetensors", "give the model file that name"
        )
    state = _weights(source)
    info = _context(state, context)
    n_classes = parameter(state, "decoder.cls.1.weight", _WHAT, 2).shape[0]
    names = tuple(classes) if classes else tuple(f"class_{index}" for index in range(n_classes))
    if len(names) != n_classes:
        raise ModelError(
            f"{len(names)} names were given for the {n_classes} classes of {source.name}",
            "name every class, in the order of the logits",
        )
    # Both follow from the rest; saying them as they are does no harm.
    implied = {"img_size": region_px, "features_only": True}
    args = {
        key: value
        for key, value in (backbone_args or {}).items()
        if key not in implied or implied[key] != value
    }
    architecture = find_architecture(backbone, args)
    try:
        encoder = EncoderInfo(
            name=architecture.name,
            source="file",
            revision=f"sha256:{file_sha256(source)}",
            backbone_args=architecture.args,
        )
        side = LastStage(architecture, region_px).side
        card = ModelCard(
            name=target.stem,
            layout="reference",
            classes=tuple(
                ClassInfo(name=name, color=DEFAULT_COLORS[index % len(DEFAULT_COLORS)])
                for index, name in enumerate(names)
            ),
            model_mpp=model_mpp,
            region_px=region_px,
            input_px=region_px,
            crop_px=DEFAULT_CROP_REGIONS * region_px if crop_px is None else crop_px,
            tokens_per_region=side,
            region_encoder=encoder,
            reduce=ReduceInfo(components=0),
            context=info,
            mean=architecture.mean,
            std=architecture.std,
            citation=_CITATION,
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = str(first["msg"]).removeprefix("Value error, ")
        raise ModelError(
            f"{source.name} cannot be converted: {f'{where}: ' if where else ''}{reason}",
            "correct the arguments that describe it",
        ) from error
    model = ReferenceXT(card)
    load_exactly(model, state, f"{architecture.name} at {region_px} px with {context}")
    return save_model(model, target)


def _weights(source: Path) -> dict[str, Tensor]:
    state = without_prefix(read_tensors(source))
    weights = {
        name: value.float() if value.is_floating_point() else value
        for name, value in state.items()
        if name.rpartition(".")[2] not in _DERIVED
    }
    for name, value in weights.items():
        if not bool(value.isfinite().all()):
            raise ModelError(
                f"{name} of {source.name} holds numbers that are not finite",
                "take a checkpoint from before its training diverged",
            )
    return weights


def _context(state: Mapping[str, Tensor], kind: str) -> ContextInfo:
    """Kind and sizes of the context layers, read off the weights."""
    if kind not in KINDS:
        raise ModelError(
            f"The reference has no context encoder {kind!r}", f"options: {', '.join(sorted(KINDS))}"
        )
    first = "decoder.layers.0."
    found = "mamba" if f"{first}mixer.A_log" in state else "hyper"
    if found != kind and any(name.startswith(first) for name in state):
        raise ModelError(f"The checkpoint holds {found} layers, not {kind}", f"use {found}")
    layers = {match[1] for name in state if (match := re.match(r"decoder\.layers\.(\d+)\.", name))}
    sizes: dict[str, JsonValue]
    if kind == "hyper":
        mlp = parameter(state, f"{first}mlp.gate_proj.weight", _WHAT, 2)
        sizes = {"mlp_dim": mlp.shape[0]}
    else:
        inner, size = parameter(state, f"{first}mixer.A_log", _WHAT, 2).shape
        sizes = {
            "inner": inner,
            "state": size,
            "conv": parameter(state, f"{first}mixer.conv1d.weight", _WHAT, 3).shape[2],
            "step_rank": parameter(state, f"{first}mixer.dt_proj.weight", _WHAT, 2).shape[1],
        }
    dim = parameter(state, "decoder.input_proj.weight", _WHAT, 2).shape[0]
    try:
        return ContextInfo(kind=kind, dim=dim, layers=len(layers), options=sizes)
    except ValidationError as error:
        raise ModelError(
            f"A context of {len(layers)} layers of size {dim} is out of range",
            "this checkpoint cannot be used",
        ) from error
