"""What a report says of the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xt_backend.model.card import ClassInfo, ModelCard
from xt_backend.model.metric_tables import MetricTable, metric_tables
from xt_backend.store.score_map import ScoreMap

__all__ = ["ModelFacts"]


@dataclass(frozen=True)
class ModelFacts:
    """A model, with its card where that could be found.

    Attributes:
        name: Of the model.
        sha256: Of its weights.
        task: "region", "slide", "dense" or "detection"; "" where nobody knows.
        classes: With their colours.
        card: Name and text of what the card says; empty where it was not found.
        metrics: Numbers of the card.
    """

    name: str
    sha256: str
    task: str
    classes: tuple[ClassInfo, ...]
    card: tuple[tuple[str, str], ...]
    metrics: tuple[MetricTable, ...]

    @classmethod
    def of_card(cls, card: ModelCard) -> ModelFacts:
        """All that a card says."""
        return cls(
            card.name,
            card.state_sha256,
            card.task,
            card.classes,
            tuple((name, text) for name, text in _card_rows(card) if text),
            tuple(metric_tables(card.metrics)),
        )

    @classmethod
    def of_map(cls, score_map: ScoreMap) -> ModelFacts:
        """What a result knows of its model."""
        return cls(
            score_map.model_name,
            score_map.model_sha256,
            score_map.task,
            tuple(
                ClassInfo(name=name, color=color)
                for name, color in zip(score_map.classes, score_map.colors, strict=True)
            ),
            (),
            (),
        )

    @classmethod
    def of_run(cls, run: Mapping[str, Any]) -> ModelFacts:
        """What run.json knows of its model."""
        model = run.get("configuration", {}).get("model", {})
        return cls(str(model.get("name", "")), str(model.get("sha256", "")), "", (), (), ())


def _card_rows(card: ModelCard) -> list[tuple[str, str]]:
    encoder, context = card.region_encoder, card.context
    mpp = "" if card.model_mpp is None else f" at {card.model_mpp:g} µm/px"
    thresholds = ", ".join(f"{name} from {value:g}" for name, value in card.thresholds.items())
    return [
        ("intended use", card.intended_use),
        ("training data", card.training_data),
        ("licence", card.licence),
        ("citation", card.citation),
        ("region", f"{card.scored_px} × {card.scored_px} px{mpp}"),
        ("region encoder", f"{encoder.name}, {encoder.source or 'source not stated'}"),
        ("licence of the encoder", encoder.licence or "not stated; ask whoever made the weights"),
        ("to cite for the encoder", encoder.citation),
        ("context encoder", f"{context.kind}, depth {context.layers}, width {context.dim}"),
        ("stain", "" if card.stain is None else f"normalised ({card.stain.method})"),
        ("decision thresholds", thresholds),
        ("about the numbers", str(card.metrics.get("note") or "")),
    ]
