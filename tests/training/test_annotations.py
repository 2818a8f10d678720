from __future__ import annotations

import json
from pathlib import Path

import pytest

from xt_backend.errors import AnnotationError, InputNotFoundError
from xt_backend.training.annotations import (
    AnnotatedSlide,
    annotated_classes,
    class_colors,
    classes_in,
    pair_slides,
    read_colors,
)

from .conftest import WriteAnnotations

BOX = (0, 0, 10, 10)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_pairs_by_stem(tmp_path: Path, write_annotations: WriteAnnotations) -> None:
    slides, notes = tmp_path / "slides", tmp_path / "notes"
    touch(slides, "b.svs", "a.x.svs", "case/c.svs", "case/d.svs")
    for name in ("b", "a.x", "case/c", "d"):
        write_annotations(notes / f"{name}.geojson", [("x", BOX)])
    found = {pair.name: pair.annotations for pair in pair_slides(slides, [notes])}
    assert found == {
        "b.svs": notes / "b.geojson",
        "a.x.svs": notes / "a.x.geojson",
        "c.svs": notes / "case" / "c.geojson",
        "d.svs": notes / "d.geojson",
    }


def test_one_folder_for_both_and_one_slide(
    tmp_path: Path, write_annotations: WriteAnnotations
) -> None:
    touch(tmp_path, "a.svs")
    file = write_annotations(tmp_path / "a.geojson", [("x", BOX)])
    expected = [AnnotatedSlide(tmp_path / "a.svs", file)]
    assert pair_slides(tmp_path, [tmp_path]) == expected
    assert pair_slides(tmp_path / "a.svs", [tmp_path]) == expected


def test_slides_without_annotations_are_all_named(
    tmp_path: Path, write_annotations: WriteAnnotations
) -> None:
    touch(tmp_path, "a.svs", "b.svs", "c.svs")
    write_annotations(tmp_path / "b.geojson", [("x", BOX)])
    with pytest.raises(AnnotationError, match=r"2 of 3 slides .*: a\.svs, c\.svs"):
        pair_slides(tmp_path, [tmp_path])


def test_one_file_for_two_slides(tmp_path: Path, write_annotations: WriteAnnotations) -> None:
    touch(tmp_path, "a.svs", "a.ndpi")
    write_annotations(tmp_path / "a.geojson", [("x", BOX)])
    with pytest.raises(AnnotationError, match=r"a\.ndpi and a\.svs.*a\.geojson"):
        pair_slides(tmp_path, [tmp_path])


def test_missing_folders_and_slides(tmp_path: Path) -> None:
    with pytest.raises(InputNotFoundError, match="nowhere"):
        pair_slides(tmp_path, [tmp_path / "nowhere"])
    with pytest.raises(AnnotationError, match="no slides"):
        pair_slides(tmp_path, [tmp_path])


def test_classes(tmp_path: Path, write_annotations: WriteAnnotations) -> None:
    files = [
        write_annotations(tmp_path / "1.geojson", [("b", BOX), (None, BOX)]),
        write_annotations(tmp_path / "2.geojson", [("a", BOX), ("b", BOX)]),
    ]
    slides = [AnnotatedSlide(tmp_path / "s.svs", file) for file in files]
    said: list[str] = []
    assert classes_in(slides, None, said.append) == ("a", "b")
    assert classes_in(slides, ("b", "a"), said.append) == ("b", "a")
    with pytest.raises(AnnotationError, match="No annotation is of class c"):
        classes_in(slides, ("a", "b", "c"), said.append)
    with pytest.raises(AnnotationError, match="named twice: a"):
        classes_in(slides, ("a", "b", "a"), said.append)
    with pytest.raises(AnnotationError, match=r"1 class: b"):
        classes_in(slides[:1], None, said.append)
    assert said == []


def test_a_class_that_occurs_nowhere_is_named_with_what_may_be_meant(
    tmp_path: Path, write_annotations: WriteAnnotations
) -> None:
    boxes = [(name, BOX) for name in ("normal", "reactive", "tumour")]
    slides = [AnnotatedSlide(tmp_path / "s.svs", write_annotations(tmp_path / "s.geojson", boxes))]
    with pytest.raises(AnnotationError) as caught:
        classes_in(slides, ("normal", "reactiv", "tumour"), list[str]().append)
    assert caught.value.cause == "No annotation is of class reactiv, which --classes names"
    assert caught.value.way_out == (
        "Did you mean reactive? The annotations hold: normal, reactive, tumour"
    )


@pytest.mark.parametrize("objects", [False, True])
def test_classes_that_are_not_named_are_left_out_aloud(
    tmp_path: Path, write_annotations: WriteAnnotations, objects: bool
) -> None:
    files = [
        write_annotations(tmp_path / "1.geojson", [("b", BOX), ("a", BOX)]),
        write_annotations(tmp_path / "2.geojson", [("Tumor", BOX), ("Tumor", BOX), ("x", BOX)]),
    ]
    slides = [AnnotatedSlide(tmp_path / "s.svs", file) for file in files]
    said: list[str] = []
    assert classes_in(slides, ("b", "a"), said.append, objects=objects) == ("b", "a")
    assert said == [
        "annotations of classes that --classes does not name are left out: "
        "Tumor (2, in 2.geojson), x (1, in 2.geojson)"
    ]


@pytest.mark.parametrize("objects", [False, True])
def test_what_has_no_area_is_counted_aloud(
    tmp_path: Path, write_annotations: WriteAnnotations, objects: bool
) -> None:
    flat = (5, 5, 5, 9)
    path = write_annotations(
        tmp_path / "1.geojson", [("a", BOX), ("b", flat), ("b", BOX), ("a", flat)]
    )
    slides = [AnnotatedSlide(tmp_path / "s.svs", path)]
    said: list[str] = []
    found = annotated_classes(slides, said.append, objects=objects)
    assert {name: one.count for name, one in found.items()} == {"a": 1, "b": 1}
    assert said == [
        "1.geojson: 2 annotations are left out (feature 2: it has no area, feature 4: it has no "
        "area)"
    ]


def test_colors(tmp_path: Path, write_annotations: WriteAnnotations) -> None:
    file = write_annotations(
        tmp_path / "1.geojson",
        [("a", BOX), ("b", BOX), ("c", BOX), ("d", BOX)],
        {"a": [255, 0, 16], "b": -3670016, "c": [300, 0, 0]},
    )
    assert read_colors(file) == {"a": "#ff0010", "b": "#c80000"}
    colors = class_colors(("d", "a", "c"), [file])
    assert colors[1] == "#ff0010"
    assert len(set(colors)) == 3
    derived = {"classification": {"names": ["Tumor", "Positive"], "color": [1, 2, 3]}}
    file.write_text(json.dumps({"type": "Feature", "properties": derived, "geometry": None}))
    assert read_colors(file) == {"Tumor: Positive": "#010203"}
