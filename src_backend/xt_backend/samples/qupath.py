"""Annotations in the GeoJSON that QuPath and ``train`` read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

__all__ = ["annotation", "collection_bytes", "rgb_of"]


def annotation(
    number: UUID, geometry: Mapping[str, Any], class_name: str, color: str, *, name: str = ""
) -> dict[str, Any]:
    """The feature of one annotation.

    Args:
        number: Its own.
        geometry: GeoJSON, level-0 px.
        class_name: What it is.
        color: Of the class, ``#rrggbb``.
        name: Of the annotation itself; empty for none.
    """
    named = {"name": name} if name else {}
    classification = {"name": class_name, "color": list(rgb_of(color))}
    return {
        "type": "Feature",
        "id": str(number),
        "geometry": geometry,
        "properties": {"objectType": "annotation", **named, "classification": classification},
    }


def collection_bytes(features: Sequence[Mapping[str, Any]]) -> bytes:
    """An annotation file of some features, in drawing order."""
    collection = {"type": "FeatureCollection", "features": features}
    return json.dumps(collection, separators=(",", ":")).encode()


def rgb_of(color: str) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255, of ``#rrggbb``."""
    return (int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16))
