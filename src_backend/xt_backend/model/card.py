"""The model card: what a model is, kept as JSON in the header of its file."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, Field, JsonValue, ValidationError, model_validator

from xt_backend.config import Mpp
from xt_backend.errors import ModelError
from xt_backend.model.card_parts import (
    CARD_CONFIG,
    MOST_COMPONENTS,
    ContextInfo,
    DenseHeadInfo,
    DetectionInfo,
    EncoderInfo,
    Fraction,
    StainInfo,
    check_dense_region,
    check_slide_head,
)
from xt_backend.model.layout import check_layout, chosen_mpp

__all__ = [
    "CARD_KEY",
    "FORMAT_VERSION",
    "ClassInfo",
    "ContextInfo",
    "DenseHeadInfo",
    "DetectionInfo",
    "EncoderInfo",
    "FeatureStats",
    "LabelRule",
    "ModelCard",
    "ReduceInfo",
    "SlideHeadInfo",
    "StainInfo",
    "first_problems",
]

CARD_KEY = "napari-xt"
"""Key of the card in the metadata of the safetensors header."""

FORMAT_VERSION = 1

_Triple = tuple[float, float, float]

_MOST_IN_A_MASK = 254
_TAKEN_KINDS = frozenset({"regions", "failed_regions"})


class _Card(BaseModel):
    model_config = CARD_CONFIG


class ClassInfo(_Card):
    """One class that a model tells apart.

    Attributes:
        name: As in the annotations.
        color: ``#rrggbb``.
    """

    name: str = Field(min_length=1, max_length=200)
    color: str = Field(pattern=r"^#[0-9a-fA-F]{6}$")


class LabelRule(_Card):
    """How the class fractions of a region become its true label.

    Attributes:
        min_annotated_fraction: A region with less annotated area than this is left out.
        min_fraction: Class name to the area fraction from which on that class is the label.
            Without an entry the label is the class of the largest fraction.
    """

    min_annotated_fraction: Fraction = 0.3
    min_fraction: dict[str, Fraction] = {}


class ReduceInfo(_Card):
    """The bottleneck between region features and context tokens.

    Attributes:
        components: Whitened principal components kept per token; 0 keeps all features,
            normalised per token instead of whitened.
    """

    components: int = Field(default=16, ge=0, le=MOST_COMPONENTS)


class SlideHeadInfo(_Card):
    """The head of slide-task models.

    Attributes:
        kind: ``class-token`` reads one more token that runs through the context encoder;
            ``attention-mil`` weighs the region tokens by gated attention.
    """

    kind: Literal["class-token", "attention-mil"] = "class-token"


class FeatureStats(_Card):
    """Whitened features of the training regions, for the out-of-distribution warning.

    Attributes:
        mean: One value per component.
        std: One value per component.
        limit: `distance` from which on a slide counts as unlike those of the training; None where
            nobody measured it.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    limit: float | None = Field(default=None, gt=0.0)

    def distance(self, means: Sequence[float]) -> float:
        """How far the mean of a slide's components is from that of the training.

        Args:
            means: One value per component.

        Returns:
            Root mean square over the components, in standard deviations of the training regions.
        """
        offsets = [
            (value - mean) / max(std, 1e-6)
            for value, mean, std in zip(means, self.mean, self.std, strict=True)
        ]
        return math.sqrt(sum(offset**2 for offset in offsets) / len(offsets))


class ModelCard(_Card):
    """Everything about a model that is not a tensor.

    Attributes:
        layout: ``napari-xt``, or ``reference`` for a converted checkpoint of the xT reference,
            which classifies crops of several regions, each crop a field of its own.
        task: ``region``: logits per region (or crop); ``slide``: logits per slide; ``dense``: a
            mask of the classes beside the regions' own logits; ``detection``: points beside them.
        classes: In the order of the logits. Of detection models the first means "none", the
            others are the kinds of points: a region's label is the kind that lies in it, and
            the heat map has one channel per kind.
        model_mpp: Pixel size that the model wants, in um/px. None only for layout ``reference``:
            its checkpoints do not say.
        crop_px: For layout ``reference``, the side of what a slide is cut into, a multiple of
            `region_px`; else None.
        region_px: Side of a region at `model_mpp`.
        input_px: Side of a sub-region; `region_px` is a multiple of it.
        tokens_per_region: k; a region gives k x k tokens.
        mean: Subtracted from RGB in 0 to 1.
        std: Divides RGB after `mean` is subtracted.
        stain: How the stain is normalised; None leaves it.
        temperature: Divides the logits before softmax.
        thresholds: Class name to the probability from which on that class is the label.
        feature_stats: Of the training regions; None where nobody measured them.
        colour_range: Smallest and largest of each of `COLOUR_NUMBERS` among the training slides;
            empty where nobody measured them.
        state_sha256: `state_sha256` of the whole model, filled in by `save_model`.
    """

    format_version: Literal[1] = 1
    name: str = Field(min_length=1, max_length=200)
    layout: Literal["napari-xt", "reference"] = "napari-xt"
    task: Literal["region", "slide", "dense", "detection"] = "region"
    classes: tuple[ClassInfo, ...] = Field(min_length=2, max_length=1000)
    label_rule: LabelRule = LabelRule()
    model_mpp: Mpp | None = None
    crop_px: int | None = Field(default=None, ge=8, le=65536)
    region_px: int = Field(ge=8, le=65536)
    input_px: int = Field(ge=8, le=8192)
    tokens_per_region: int = Field(default=1, ge=1, le=64)
    region_encoder: EncoderInfo
    reduce: ReduceInfo = ReduceInfo()
    context: ContextInfo
    slide_head: SlideHeadInfo = SlideHeadInfo()
    dense_head: DenseHeadInfo = DenseHeadInfo()
    detection: DetectionInfo = DetectionInfo()
    mean: _Triple
    std: _Triple
    stain: StainInfo | None = None
    licence: str = ""
    citation: str = ""
    training_data: str = ""
    intended_use: str = ""
    metrics: dict[str, JsonValue] = {}
    temperature: float = Field(default=1.0, gt=0.0)
    thresholds: dict[str, Fraction] = {}
    feature_stats: FeatureStats | None = None
    colour_range: dict[str, tuple[float, float]] = {}
    state_sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")

    @model_validator(mode="after")
    def _consistent(self) -> ModelCard:
        names = self.class_names
        if len(set(names)) != len(names):
            raise ValueError("class names must differ")
        for where, keys in (
            ("thresholds", self.thresholds),
            ("label_rule.min_fraction", self.label_rule.min_fraction),
        ):
            unknown = sorted(set(keys) - set(names))
            if unknown:
                raise ValueError(f"{where} names unknown classes: {', '.join(unknown)}")
        if self.region_px % self.input_px:
            raise ValueError(
                f"region_px {self.region_px} is not a multiple of input_px {self.input_px}"
            )
        if min(self.std) <= 0:
            raise ValueError("std must be positive")
        if self.task == "slide":
            check_slide_head(self.slide_head.kind, self.context.kind)
        self._check_dense()
        check_layout(self)
        return self

    def _check_dense(self) -> None:
        if self.has_dense_head:
            check_dense_region(self.region_px)
        if self.task == "dense" and len(self.classes) > _MOST_IN_A_MASK:
            raise ValueError(f"a mask holds at most {_MOST_IN_A_MASK} classes")
        unknown = sorted(set(self.detection.thresholds) - set(self.point_kinds))
        if unknown:
            raise ValueError(f"detection.thresholds names unknown kinds: {', '.join(unknown)}")
        taken = sorted(_TAKEN_KINDS & set(self.point_kinds))
        if taken:
            raise ValueError(f"slides.csv has columns n_{', n_'.join(taken)} of its own")

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in the order of the logits."""
        return tuple(item.name for item in self.classes)

    @property
    def has_dense_head(self) -> bool:
        """Whether the model decodes pixels: task dense or detection."""
        return self.task in ("dense", "detection")

    @property
    def point_kinds(self) -> tuple[str, ...]:
        """Kinds of points in the order of the heat map's channels; empty for other tasks."""
        return self.class_names[1:] if self.task == "detection" else ()

    @property
    def scored_px(self) -> int:
        """Side of what gets one row of a score map, px at model mpp: a region, or a crop."""
        return self.region_px if self.crop_px is None else self.crop_px

    def mpp(self, given: float | None = None) -> float:
        """The pixel size at which the model is used, um/px.

        Args:
            given: What the user asks for. A converted model (layout ``reference``) takes it; for
                any other it may only repeat what the card says.

        Raises:
            ModelError: None is known, or the model was trained at another one.
        """
        return chosen_mpp(self, given)

    @property
    def region_um(self) -> float:
        """Side of a region in um.

        Raises:
            ModelError: The model states no pixel size.
        """
        return self.region_px * self.mpp()

    def to_json(self) -> str:
        """The card as it is stored: compact JSON with sorted keys.

        Raises:
            ModelError: A metric or option is NaN or infinite.
        """
        data = self.model_dump(mode="json")
        try:
            return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
        except ValueError as error:
            raise ModelError(
                f"The card of model {self.name} holds a number that is not finite",
                "leave out metrics that could not be computed",
            ) from error

    @classmethod
    def from_json(cls, text: str, *, where: str) -> ModelCard:
        """Read a stored card.

        Args:
            text: JSON.
            where: The file's name, for messages.

        Raises:
            ModelError: No valid card, or one of a newer version.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ModelError(
                f"{where} holds a model card that is no JSON", "get the file again"
            ) from error
        version = data.get("format_version") if isinstance(data, dict) else None
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise ModelError(
                f"{where} has model format {version}, written by a newer version of napari-xt",
                "upgrade napari-xt",
            )
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise ModelError(
                f"{where} holds a model card that is not valid: {first_problems(error)}",
                "get the file again, or train the model again with this version",
            ) from error


def first_problems(error: ValidationError) -> str:
    """What is wrong with a card, in one line."""
    problems = [
        f"{'.'.join(str(part) for part in item['loc']) or 'card'}: {item['msg']}"
        for item in error.errors()
    ]
    more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
    return "; ".join(problems[:3]) + more
