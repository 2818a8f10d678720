"""Vision backbones by name."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Protocol

from torch import nn

from xt_backend.errors import ModelError
from xt_backend.model.hub import HubName, hub_file
from xt_backend.model.registry import Registry, unknown_name

__all__ = [
    "REGION_ENCODERS",
    "Architecture",
    "BackboneBuilder",
    "create_backbone",
    "find_architecture",
    "list_region_encoders",
    "size_error",
]

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


class BackboneBuilder(Protocol):
    """Builds a backbone of one's own: a module from (B, 3, s, s) to a map (B, C, h, w)."""

    def __call__(self, *, input_px: int, **args: Any) -> nn.Module:
        """Build it for inputs of that size."""
        ...


REGION_ENCODERS: Registry[BackboneBuilder] = Registry("region encoder")
"""Backbones besides those of timm; they come before a timm model of the same name."""


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A backbone without weights.

    Attributes:
        name: In the registry or in timm, without tag.
        args: Further arguments, plain JSON values.
        native_px: Side of the inputs that its weights were trained with; None where any will do.
        fixed_size: Whether the input size is built into the module.
        mean: Of RGB in 0 to 1.
        std: Of RGB in 0 to 1.
        hub: Where timm finds the weights.
        classifier: Prefixes of weights that are not part of the encoder.
    """

    name: str
    args: dict[str, Any]
    native_px: int | None
    fixed_size: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    hub: HubName | None
    classifier: tuple[str, ...]
    licence: str
    citation: str


def list_region_encoders() -> tuple[str, ...]:
    """Names that `build_region_encoder` takes, besides ``hf-hub:owner/name[@revision]``."""
    return tuple(sorted({*REGION_ENCODERS.names(), *_timm().list_models()}))


def find_architecture(
    name: str,
    backbone_args: Mapping[str, Any] | None = None,
    *,
    revision: str | None = None,
    offline: bool | None = None,
) -> Architecture:
    """Look a backbone up.

    Args:
        name: Registered name, timm name with or without tag, or ``hf-hub:owner/name[@revision]``.
        backbone_args: Added to the arguments that the hub's configuration names.
        revision: For the hub, where the name has none.
        offline: See `hub_file`.

    Raises:
        ModelError: Unknown name, or its configuration cannot be had.
    """
    args = dict(backbone_args or {})
    hub = HubName.parse(name, revision)
    if hub is not None:
        found = hub_file(hub, ("config.json",), offline=offline)
        return _from_hub(HubName(hub.repository, found.revision), found.path.read_bytes(), args)
    if name in REGION_ENCODERS:
        return Architecture(
            name, args, None, False, _IMAGENET_MEAN, _IMAGENET_STD, None, (), "", ""
        )
    short = name.partition(".")[0]
    if not _timm().is_model(short):
        raise unknown_name("region encoder", name, list_region_encoders())
    config = _timm().get_pretrained_cfg(name, allow_unregistered=False) if _has_cfg(name) else None
    if config is None:
        raise ModelError(
            f"{short} has no weights tagged {name.partition('.')[2]!r}",
            f"tags: {', '.join(_tags(short)) or 'none'}",
        )
    repository = config.hf_hub_id
    return _from_config(
        short,
        dataclasses.asdict(config),
        args,
        HubName(repository, revision) if repository else None,
    )


def create_backbone(
    architecture: Architecture, input_px: int, *, features_only: bool = False
) -> nn.Module:
    """Build the module, its classifier removed, with the library's own initial weights.

    Args:
        architecture: What to build.
        input_px: Side of its inputs.
        features_only: Build timm's list of stages, without the last norm, as the xT reference
            does; only for backbones of timm.

    Raises:
        ModelError: The backbone cannot take inputs of that size or those arguments.
    """
    args = {key: _as_tuple(value) for key, value in architecture.args.items()}
    try:
        if features_only:
            args["features_only"] = True
        elif architecture.name in REGION_ENCODERS:
            return REGION_ENCODERS.get(architecture.name)(input_px=input_px, **args)
        if architecture.fixed_size:
            args["img_size"] = input_px
        if not features_only:
            args["num_classes"] = 0
        backbone: nn.Module = _timm().create_model(architecture.name, pretrained=False, **args)
    except Exception as error:  # whatever a third-party constructor raises
        raise size_error(architecture.name, input_px, architecture.native_px, error) from error
    return backbone


def _timm() -> ModuleType:
    """Loaded when first used: with torchvision it takes a second or two to import."""
    import timm

    return timm


def size_error(name: str, input_px: int, native_px: int | None, error: Exception) -> ModelError:
    """The error for a backbone that does not take an input size or its arguments."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    native = f"{native_px} px is its own size; " if native_px else ""
    return ModelError(
        f"{name} cannot be built for inputs of {input_px} px ({lines[0][:200].rstrip('.')})",
        f"{native}choose region_px and input_px so that the region is a multiple of the input",
    )


def _has_cfg(name: str) -> bool:
    short, _, tag = name.partition(".")
    return not tag or tag in _tags(short)


def _tags(short: str) -> list[str]:
    tagged = _timm().list_pretrained(f"{short}.*")
    return [name.partition(".")[2] for name in tagged if name.partition(".")[0] == short]


def _from_hub(hub: HubName, text: bytes, args: dict[str, Any]) -> Architecture:
    try:
        config = json.loads(text)
        name = str(config["architecture"])
        model_args = dict(config.get("model_args") or {})
        pretrained = dict(config.get("pretrained_cfg") or config)
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"hf-hub:{hub.repository} has no configuration that timm understands",
            "name a timm model and give its weights with --weights FILE",
        ) from error
    short = name.partition(".")[0]
    if not _timm().is_model(short):
        raise unknown_name("region encoder", short, list_region_encoders())
    for key in ("num_classes", "img_size", "global_pool"):
        model_args.pop(key, None)
    return _from_config(short, pretrained, {**model_args, **args}, hub)


def _from_config(
    name: str, config: Mapping[str, Any], args: dict[str, Any], hub: HubName | None
) -> Architecture:
    native = int(config.get("input_size", (3, 224, 224))[-1])
    classifier = config.get("classifier") or ()
    if isinstance(classifier, str):
        classifier = (classifier,)
    return Architecture(
        name=name,
        args=args,
        native_px=native,
        fixed_size=bool(config.get("fixed_input_size", False)),
        mean=_three(config.get("mean", _IMAGENET_MEAN)),
        std=_three(config.get("std", _IMAGENET_STD)),
        hub=hub,
        classifier=tuple(classifier),
        licence=str(config.get("license") or ""),
        citation=str(config.get("paper_name") or ""),
    )


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list) else value
