"""Annotations and truth mask of a written sample."""

from __future__ import annotations

import json
import uuid
from typing import Any

import numpy as np
import shapely
from PIL import Image
from scipy import ndimage
from shapely.geometry import shape

from xt_backend.samples import CLASSES, Sample
from xt_backend.samples.annotations import MASK_DOWNSAMPLE, annotation_features
from xt_backend.samples.layout import Layout


def _features(sample: Sample) -> list[dict[str, Any]]:
    collection = json.loads(sample.annotations.read_text())
    assert collection["type"] == "FeatureCollection"
    features: list[dict[str, Any]] = collection["features"]
    return features


def _class_name(feature: dict[str, Any]) -> str:
    return str(feature["properties"]["classification"]["name"])


def test_features_are_as_qupath_wants_them(sample: Sample) -> None:
    features = _features(sample)
    colours = {kind.name: list(kind.rgb) for kind in CLASSES}
    for feature in features:
        assert feature["type"] == "Feature"
        assert uuid.UUID(feature["id"]).version == 5
        assert feature["properties"]["objectType"] == "annotation"
        assert feature["properties"]["classification"]["color"] == colours[_class_name(feature)]
        geometry = shape(feature["geometry"])
        assert geometry.is_valid
        assert geometry.geom_type in {"Polygon", "MultiPolygon"}
    assert len({feature["id"] for feature in features}) == len(features)


def test_other_comes_first_and_nests_last(sample: Sample) -> None:
    names = [_class_name(feature) for feature in _features(sample)]
    assert names[0] == "other"
    assert sorted(names[1:-1]) == ["normal", "reactive"]
    assert names[-1] == "nest"


def test_a_lobule_is_reactive_exactly_if_a_nest_lies_in_it(layout: Layout) -> None:
    features = annotation_features(layout, "x")
    nests = [shape(f["geometry"]) for f in features if _class_name(f) == "nest"]
    for feature in features[1:]:
        if _class_name(feature) != "nest":
            holds = [shape(feature["geometry"]).buffer(1).contains(nest) for nest in nests]
            assert sum(holds) == (_class_name(feature) == "reactive")


def test_ids_differ_between_slides(layout: Layout) -> None:
    ids = {f["id"] for name in ("a", "b") for f in annotation_features(layout, name)}
    assert len(ids) == 2 * len(annotation_features(layout, "a"))


def test_the_mask_says_what_the_annotations_say(sample: Sample) -> None:
    with Image.open(sample.truth) as image:
        mask = np.asarray(image)
        listed = {row["name"]: row["value"] for row in json.loads(image.text["classes"])}
        assert int(image.text["downsample"]) == MASK_DOWNSAMPLE == 8
        palette = np.array(image.getpalette()).reshape(-1, 3)
        for kind in CLASSES:
            assert palette[kind.mask_value].tolist() == list(kind.rgb)
    assert mask.shape == (256, 256)
    row, column = np.indices(mask.shape)
    x, y = (column + 0.5) * MASK_DOWNSAMPLE, (row + 0.5) * MASK_DOWNSAMPLE
    expected = np.zeros_like(mask)
    near_border = np.zeros(mask.shape, bool)
    for feature in _features(sample):
        geometry = shape(feature["geometry"])
        expected[shapely.contains_xy(geometry, x, y)] = listed[_class_name(feature)]
        near_border |= shapely.dwithin(geometry.boundary, shapely.points(x, y), 0.02)
    np.testing.assert_array_equal(mask[~near_border], expected[~near_border])
    assert set(np.unique(mask)) == {0, 1, 2, 3, 4}
    assert [kind.mask_value for kind in CLASSES] == [1, 2, 3, 4]


def test_the_annotations_fit_the_picture(sample: Sample) -> None:
    import openslide

    with Image.open(sample.truth) as image:
        mask = np.asarray(image)
    with openslide.OpenSlide(sample.slide) as slide:
        size = slide.level_dimensions[0]
        pixels = np.asarray(slide.read_region((0, 0), 0, size).convert("RGB"))
    height, width = mask.shape
    small = pixels.reshape(height, 8, width, 8, 3).mean(axis=(1, 3))
    darkness = 255 - small.mean(axis=2)

    def deep(value: int, pixels_in: int = 2) -> Any:
        return ndimage.binary_erosion(mask == value, iterations=pixels_in)

    glass, normal, reactive, nest, other = (darkness[deep(v)].mean() for v in range(5))
    assert glass < 20 < other < min(normal, reactive)
    assert nest > max(normal, reactive) + 30
