"""What training and evaluation are asked to do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, JsonValue, model_validator

from xt_backend.config import CommonOptions, Mpp
from xt_backend.model.card_parts import (
    MOST_COMPONENTS,
    check_context_size,
    check_dense_region,
    check_slide_head,
)

from .calibrate import Goal

__all__ = ["EvaluateSpec", "TrainSpec"]

Share = Annotated[float, Field(ge=0.0, le=1.0)]


Task: TypeAlias = Literal["region", "slide", "dense", "detection"]

DENSE_FIELD = 8
"""Side of the crops that dense and detection models learn from, unless told otherwise."""


class TrainSpec(CommonOptions):
    """One training; the defaults are the recipe of ``context-demo`` on cached features.

    Attributes:
        slides: Folder of slides.
        annotations: Folder with one QuPath GeoJSON a slide; `slides` when None.
        labels: CSV ``slide,label[,patient]``, for task ``slide``.
        out: Model file to write, ``.safetensors``.
        task: What is predicted; ``slide`` where `labels` are given and no task is.
        slide_head: How a slide is predicted from its regions; ``attention-mil`` where there is no
            context and none is named.
        classes: Names in the order of the model's outputs; None takes all annotated, sorted.
        val: Folder of validation slides; their annotations lie beside them or in `annotations`.
            None keeps back `val_fraction` of the slides.
        val_fraction: 0 keeps none back: the last epoch is taken. That needs `folds`, to fit
            temperature and thresholds on.
        patients: CSV ``slide,patient``: slides of one patient stay on one side.
        folds: Train so many models more, each without one part of the patients. What they predict
            for that part decides temperature and thresholds; the model itself is trained on all
            slides, for as many epochs as were best for the others.
        resume: Go on where a training with the same settings was killed; False starts over.
        region_encoder: Name as in `list_region_encoders`.
        weights: ``pretrained``, ``random`` (seeded) or a safetensors file.
        model_mpp: Pixel size at which regions are read, um/px.
        region_px: Side of a region at `model_mpp`.
        input_px: Side of what the encoder takes at once; `region_px` when None.
        tokens_per_region: k of k x k tokens per region; None for 2, or 1 where the region
            encoder's map has a single place.
        pooling: ``map``, or ``cls`` or ``cls+mean`` for encoders with a class token.
        stain: Every slide's stain is brought to that of an average training slide, by the method
            of Macenko or of Reinhard; the model file records it.
        components: Whitened principal components of the features that the model sees; 0 gives it
            all features, each token normalised.
        context: Kind of context encoder, as in `list_contexts`.
        layers: Layers of the context encoder.
        dim: Width of the context encoder.
        context_options: Further arguments of the context encoder, over those of the recipe (see
            `context_arguments`).
        min_fraction: By class: the share of a region from which it gives the true label.
        min_annotated_fraction: Regions annotated less are left out.
        thresholds: Classes whose decision threshold is fitted on the validation slides; None takes
            those of `min_fraction`, whose regions are mostly of another class.
        threshold_goal: What their thresholds make as large as possible.
        threshold_margin: How many standard errors, over patients or slides, a threshold must be
            worth to be kept; 0 keeps whichever is best for the slides that are held out.
        epochs: Passes over the training slides, unless `patience` ends it earlier.
        views_per_epoch: Slides, or crops of them, that an epoch draws; None draws every slide once.
        patience: Epochs without a better validation loss after which training ends.
        slides_per_step: Slides that one step learns from.
        lr: Largest learning rate.
        warm_up: Share of all steps in which the learning rates rise; then they fall to 0.
        weight_decay: Of AdamW, on weight matrices only.
        class_balance: 0 counts all regions alike, 1 gives every class the same total weight.
        label_smoothing: Share of the label that is spread over all classes.
        token_dropout: Share of tokens blanked in a step.
        token_noise: Standard deviation added to the whitened components.
        region_only_weight: Weight of the region-only head's loss beside the context head's.
        parts: The region-only head also learns from g x g parts of every region, each by what it
            shows itself: for `end_to_end` on annotated areas, where small things make up a
            region. A multiple of `tokens_per_region`; 0 leaves it out.
        parts_weight: Weight of their loss.
        end_to_end: Train the region encoder too, from pixels; its weights go into the model file.
        encoder_lr: Largest learning rate of the region encoder.
        grad_ratio: Share of a field's regions, drawn anew for every step, that the region encoder
            learns from; all of them are context.
        field_regions: Side n of the crops of n x n regions that a step learns from; 0 takes whole
            slides, None as well but for the tasks ``dense`` and ``detection``, where it is 8.
        peak_radius_um: Of an object, for task ``detection``.
        region_weight: Weight of the loss of the regions' own labels beside that of the pixels, for
            the tasks ``dense`` and ``detection``.
        regions_at_once: Regions that go through the region encoder together, while training.
        activation_checkpoints: Compute activations twice rather than keep them, where the region
            encoder can.
        turns: Flip pixels and turn them by right angles.
        colour_jitter: Largest change of brightness, contrast and saturation, as a share.
        stain_jitter: Largest change of the strength of each stain, as a share.
        blur: Largest standard deviation of a blur that every other view gets, px of a region.
        zoom: Views show up to so many times more or less of the slide, along a side; 1 is as it is.
        shift: Views are cut into regions that lie elsewhere, by up to this share of a region.
        even_patients: Every patient is drawn equally often, however many slides are theirs.
        seed: Of everything random.
        licence, citation, training_data, intended_use: For the model card.
    """

    slides: Path
    out: Path
    annotations: Path | None = None
    labels: Path | None = None
    task: Task = "region"
    slide_head: Literal["class-token", "attention-mil"] = "class-token"
    classes: tuple[str, ...] | None = None
    val: Path | None = None
    val_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.2
    patients: Path | None = None
    folds: Annotated[int, Field(ge=2, le=100)] | None = None
    resume: bool = True
    name: str | None = None

    region_encoder: str = "tf_efficientnet_lite0"
    weights: str = "pretrained"
    model_mpp: Mpp = 0.75
    region_px: Annotated[int, Field(ge=8, le=16384)] = 128
    input_px: Annotated[int, Field(ge=8)] | None = None
    tokens_per_region: Annotated[int, Field(ge=1)] | None = None
    pooling: Literal["map", "cls", "cls+mean"] = "map"

    stain: Literal["macenko", "reinhard"] | None = None
    components: Annotated[int, Field(ge=0, le=MOST_COMPONENTS)] = 32
    context: str = "mamba2"
    layers: Annotated[int, Field(ge=1, le=64)] = 8
    dim: Annotated[int, Field(ge=8, le=4096)] = 64
    context_options: dict[str, JsonValue] = Field(default_factory=dict)

    min_fraction: dict[str, Share] = Field(default_factory=dict)
    min_annotated_fraction: Share = 0.3
    thresholds: tuple[str, ...] | None = None
    threshold_goal: Goal = "f1"
    threshold_margin: Annotated[float, Field(ge=0.0)] = 0.0

    epochs: Annotated[int, Field(ge=1)] = 120
    views_per_epoch: Annotated[int, Field(ge=1)] | None = None
    patience: Annotated[int, Field(ge=1)] = 60
    slides_per_step: Annotated[int, Field(ge=1)] = 4
    lr: Annotated[float, Field(gt=0.0)] = 2e-3
    warm_up: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.05
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.05
    class_balance: Share = 0.0
    label_smoothing: Share = 0.0
    token_dropout: Share = 0.0
    token_noise: Annotated[float, Field(ge=0.0)] = 0.6
    region_only_weight: Annotated[float, Field(gt=0.0)] = 0.5

    parts: Annotated[int, Field(ge=0, le=64)] = 0
    parts_weight: Annotated[float, Field(gt=0.0)] = 1.0

    end_to_end: bool = False
    encoder_lr: Annotated[float, Field(gt=0.0)] = 1e-4
    grad_ratio: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    field_regions: Annotated[int, Field(ge=0, le=4096)] | None = None
    peak_radius_um: Annotated[float, Field(gt=0.0, le=1000.0)] = 4.0
    region_weight: Annotated[float, Field(gt=0.0)] = 0.5
    regions_at_once: Annotated[int, Field(ge=1, le=4096)] = 16
    activation_checkpoints: bool = True
    turns: bool = True
    colour_jitter: Share = 0.1
    stain_jitter: Share = 0.1
    blur: Annotated[float, Field(ge=0.0, le=16.0)] = 0.0
    zoom: Annotated[float, Field(ge=1.0, le=4.0)] = 1.0
    shift: Share = 0.0
    even_patients: bool = False
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    licence: str = ""
    citation: str = ""
    training_data: str = ""
    intended_use: str = ""

    @property
    def context_arguments(self) -> dict[str, JsonValue]:
        """Arguments of the context encoder besides its dim and layers.

        Where the order of reading says how tokens lie to each other, no position is added that
        could be learnt by heart. Mamba-2's many small heads forget at different speeds.
        """
        recipe: dict[str, JsonValue] = {} if self.context == "none" else {"dropout": 0.1}
        if self.context in ("mamba", "mamba2", "transformer-xl"):
            recipe |= {"order": "alternate", "positions": "none"}
        if self.context == "mamba2":
            recipe |= {"state": 16, "head_dim": math.gcd(2 * self.dim, 16)}
        return {**recipe, **self.context_options}

    @property
    def reads_pixels(self) -> bool:
        """Whether training reads pixels in every step, not features that were encoded once."""
        return self.end_to_end or self.task in ("dense", "detection")

    @property
    def field_side(self) -> int:
        """N of the crops of n x n regions; 0 for whole slides."""
        if self.field_regions is not None:
            return self.field_regions
        return DENSE_FIELD if self.task in ("dense", "detection") else 0

    @property
    def moves(self) -> bool:
        """Whether every view has a lattice of its own."""
        return self.zoom > 1.0 or self.shift > 0.0

    @property
    def fitted_thresholds(self) -> tuple[str, ...]:
        """Classes whose decision threshold is fitted."""
        return tuple(self.min_fraction) if self.thresholds is None else self.thresholds

    def unknown_class(self, classes: Sequence[str]) -> tuple[str, str] | None:
        """An option that names something else than one of these classes, and what it names."""
        for option, named in (
            ("--min-fraction", self.min_fraction),
            ("thresholds", self.thresholds or ()),
        ):
            for name in named:
                if name not in classes:
                    return option, name
        return None

    @model_validator(mode="before")
    @classmethod
    def _task_from_labels(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        if values.get("labels") and not values.get("task"):
            values = {**values, "task": "slide"}
        if (
            values.get("task") == "slide"
            and values.get("context") == "none"
            and not values.get("slide_head")
        ):
            values = {**values, "slide_head": "attention-mil"}
        return values

    @model_validator(mode="after")
    def _check_task(self) -> TrainSpec:
        if (self.task == "slide") != (self.labels is not None):
            raise ValueError("task slide and a table of labels belong together")
        if self.labels is not None and self.annotations is not None:
            raise ValueError("give either annotations or labels")
        if self.task == "slide" and self.min_fraction:
            raise ValueError("min_fraction is a rule for regions, a slide has its label")
        if not self.val_fraction and self.val is None and self.folds is None:
            raise ValueError("without validation slides (val_fraction 0) it needs folds")
        if self.moves and (not self.end_to_end or self.task in ("dense", "detection")):
            raise ValueError("zoom and shift are for end_to_end with tasks region and slide")
        if self.parts and not (self.end_to_end and self.task in ("region", "dense")):
            raise ValueError("parts are for end_to_end with tasks region and dense")
        if self.parts and self.pooling != "map":
            raise ValueError("a class token has no parts: leave out pooling or parts")
        if self.task == "slide" and self.field_regions:
            raise ValueError("the label of a slide is not that of a crop: leave out field_regions")
        return self

    @model_validator(mode="after")
    def _check_model(self) -> TrainSpec:
        """What the card would refuse, before any slide is read."""
        check_context_size(self.dim, self.layers)
        if self.task == "slide":
            check_slide_head(self.slide_head, self.context)
        if self.task in ("dense", "detection"):
            check_dense_region(self.region_px)
        if self.input_px is not None and self.region_px % self.input_px:
            raise ValueError(
                f"region_px {self.region_px} is not a multiple of input_px {self.input_px}"
            )
        return self

    @model_validator(mode="after")
    def _check_classes(self) -> TrainSpec:
        if self.classes is not None and (wrong := self.unknown_class(self.classes)):
            option, name = wrong
            raise ValueError(f"{option} names {name}, which --classes does not")
        return self


class EvaluateSpec(CommonOptions):
    """One evaluation of a model on annotated slides.

    Attributes:
        model: Name of a known model or a model file.
        slides: Folder of slides.
        annotations: Folder with one QuPath GeoJSON a slide; `slides` when None.
        leave_out: Classes of annotations that the model does not know and that are not judged.
        labels: CSV ``slide,label[,patient]``, for models that predict slides.
        distance_um: How far a point may lie from an object to count as found; the model's own
            radius of an object when None.
        patients: CSV ``slide,patient``; the bootstrap then draws patients.
        ordered: The classes have an order, that of the model: also measure quadratic kappa.
        model_mpp: Pixel size of a converted model whose file states none, um/px.
        out: Folder for numbers, predictions and pictures; None writes nothing.
        compare_context: Also measure the region-only head.
        bootstrap: Resamples behind the intervals; 0 leaves them out.
        seed: Of the resampling.
        encoder_backend: ``openvino-int8`` tells what is lost by it.
    """

    model: str
    slides: Path
    annotations: Path | None = None
    leave_out: tuple[str, ...] = ()
    labels: Path | None = None
    distance_um: Annotated[float, Field(gt=0.0)] | None = None
    patients: Path | None = None
    ordered: bool = False
    model_mpp: Mpp | None = None
    out: Path | None = None
    compare_context: bool = False
    bootstrap: Annotated[int, Field(ge=0, le=100_000)] = 1000
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    encoder_backend: Literal["torch", "openvino-int8"] = "torch"

    @model_validator(mode="after")
    def _check_ignored(self) -> EvaluateSpec:
        ignored = sorted(self.model_fields_set & {"roi", "stride_px", "max_failed_fraction"})
        if ignored:
            raise ValueError(
                "evaluation judges all annotated regions, side by side, and counts those that "
                f"cannot be read as wrong: leave out {', '.join(ignored)}"
            )
        return self
