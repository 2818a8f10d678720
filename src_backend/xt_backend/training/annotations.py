"""Which annotation file belongs to which slide, and which classes the files hold."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xt_backend.errors import AnnotationError, InputNotFoundError
from xt_backend.keys import DEFAULT_COLORS
from xt_backend.slides import find_slides, read_objects, sift_features
from xt_backend.wording import counted, did_you_mean

__all__ = [
    "NO_OBJECT",
    "AnnotatedSlide",
    "Occurrence",
    "annotated_classes",
    "class_colors",
    "classes_in",
    "listed",
    "occurrences",
    "pair_slides",
    "read_colors",
    "unpaired_files",
]

NO_OBJECT = "none"
"""First class of detection models: a region without any object."""

SUFFIXES = (".geojson", ".json")


@dataclass(frozen=True)
class AnnotatedSlide:
    """A slide and its annotations.

    Attributes:
        path: Slide file or DICOM folder.
        annotations: GeoJSON file.
    """

    path: Path
    annotations: Path

    @property
    def name(self) -> str:
        """The slide's file name."""
        return self.path.name


@dataclass(frozen=True)
class Occurrence:
    """Where a class occurs.

    Attributes:
        count: Its annotations, in all files; of objects, its objects.
        first: Name of the first file that holds one.
    """

    count: int
    first: str


def pair_slides(slides: Path, annotations: Sequence[Path]) -> list[AnnotatedSlide]:
    """Find the slides of a folder and the annotation file of each, by its stem.

    Args:
        slides: Folder of slides, or one slide.
        annotations: Folders that are searched in this order; in each the slide's own subfolder
            comes first.

    Returns:
        One entry a slide, in the order of `find_slides`.

    Raises:
        InputNotFoundError: A folder does not exist.
        AnnotationError: No slide at all, slides without a file (all are named), or two slides
            with one stem.
    """
    for folder in (slides, *annotations):
        if not folder.exists():
            raise InputNotFoundError(f"There is no folder {folder}", "Check the path")
    found = find_slides([slides]).slides
    if not found:
        raise AnnotationError(f"{slides} holds no slides", "Give the folder with the slides")
    by_file: dict[Path, AnnotatedSlide] = {}
    missing: list[str] = []
    for path in found:
        file = _find_file(path, slides, annotations)
        if file is None:
            missing.append(path.name)
            continue
        other = by_file.setdefault(file, AnnotatedSlide(path, file))
        if other.path != path:
            raise AnnotationError(
                f"{other.name} and {path.name} have the same stem, so {file.name} would belong "
                "to both",
                "Rename one of them and its annotations",
            )
    if missing:
        raise AnnotationError(
            f"{len(missing)} of {counted(len(found), 'slide')} without annotations: "
            f"{listed(missing)}",
            f"Each slide needs <its name>{SUFFIXES[0]} in the annotations folder; "
            "move slides without annotations elsewhere",
        )
    return list(by_file.values())


def unpaired_files(folder: Path, slides: Sequence[AnnotatedSlide]) -> list[str]:
    """Names of the GeoJSON files of a folder that are of none of the slides.

    Args:
        folder: Its subfolders are not looked at.
        slides: As of `pair_slides`.
    """
    used = {slide.annotations for slide in slides}
    return [path.name for path in sorted(folder.glob(f"*{SUFFIXES[0]}")) if path not in used]


def classes_in(
    slides: Iterable[AnnotatedSlide],
    wanted: Sequence[str] | None,
    warn: Callable[[str], object],
    *,
    objects: bool = False,
) -> tuple[str, ...]:
    """Decide on the classes, and check all annotation files before any work.

    Args:
        slides: Of training and validation.
        wanted: Names in the order of the model's outputs; others are left out. None takes all that
            occur, sorted.
        warn: Is told of annotations that are left out.
        objects: Whether points and outlines of objects are asked for, not areas.

    Raises:
        AnnotationError: A file cannot be read, a class never occurs, or there are fewer than two,
            or no kind of object.
    """
    files = annotated_classes(slides, warn, objects=objects)
    if wanted is None:
        classes = tuple(files)
    else:
        classes = tuple(wanted)
        if repeated := sorted({name for name in classes if classes.count(name) > 1}):
            raise AnnotationError(f"Classes are named twice: {listed(repeated)}", "See --classes")
        if absent := [name for name in classes if name not in files]:
            raise AnnotationError(
                f"No annotation is of class {listed(absent)}, which --classes names",
                f"{did_you_mean(absent[0], files)}The annotations hold: "
                f"{listed(list(files)) or 'no class'}",
            )
        if others := [name for name in files if name not in classes]:
            warn(
                "annotations of classes that --classes does not name are left out: "
                f"{occurrences(files, others)}"
            )
    if objects and classes and NO_OBJECT not in classes:
        return classes
    if objects:
        raise AnnotationError(
            f"The kinds of objects are: {listed(classes) or 'none'}",
            f"Mark objects of a class; {NO_OBJECT} is what the model calls places without any",
        )
    if len(classes) < 2:
        raise AnnotationError(
            f"The annotations hold {counted(len(classes), 'class', 'classes')}: "
            f"{listed(classes) or 'none'}",
            "A model needs at least two; in QuPath, set the class of every annotation"
            if wanted is None
            else "A model needs at least two; name more with --classes",
        )
    return classes


def annotated_classes(
    slides: Iterable[AnnotatedSlide], warn: Callable[[str], object], *, objects: bool = False
) -> dict[str, Occurrence]:
    """Every class that occurs, sorted by name.

    Args:
        slides: Their annotation files are read.
        warn: Is told of features from which nothing can be learnt: areas of no size.
        objects: Whether points and outlines of objects are asked for, not areas.

    Raises:
        AnnotationError: A file cannot be read.
    """
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for slide in slides:
        file = slide.annotations
        names: Iterable[str | None]
        if objects:
            found = read_objects(file)
            names, left_out = found.names, found.left_out
        else:
            shapes, left_out = sift_features(file)
            names = [one.name for one in shapes]
        if left_out:
            n = counted(len(left_out), "annotation is", "annotations are")
            why = listed([f"feature {number}: {text}" for number, text in left_out.items()], 3)
            warn(f"{file.name}: {n} left out ({why})")
        for name in names:
            if name is not None:
                first.setdefault(name, file.name)
                counts[name] += 1
    return {name: Occurrence(counts[name], first[name]) for name in sorted(first)}


def occurrences(found: Mapping[str, Occurrence], names: Iterable[str]) -> str:
    """Some of the classes for a message: how often they occur, and where first."""
    return listed([f"{name} ({found[name].count:,}, in {found[name].first})" for name in names])


def class_colors(classes: Sequence[str], files: Iterable[Path]) -> tuple[str, ...]:
    """``#rrggbb`` of every class: the first colour in the files, else one of a fixed palette."""
    found: dict[str, str] = {}
    for file in files:
        for name, color in read_colors(file).items():
            found.setdefault(name, color)
    spare = [color for color in DEFAULT_COLORS if color not in found.values()]
    spare = spare or list(DEFAULT_COLORS)
    missing = [name for name in classes if name not in found]
    extra = {name: spare[index % len(spare)] for index, name in enumerate(missing)}
    return tuple(found.get(name) or extra[name] for name in classes)


def read_colors(path: Path) -> dict[str, str]:
    """``#rrggbb`` by class name from a QuPath GeoJSON file; classes without a colour are left out.

    QuPath writes a colour as ``[r, g, b]`` or, in older versions, as one packed number.
    """
    document = json.loads(path.read_text(encoding="utf-8-sig"))
    features = document.get("features", [document]) if isinstance(document, dict) else document
    colors: dict[str, str] = {}
    for feature in features:
        properties = feature.get("properties") if isinstance(feature, dict) else None
        kind = properties.get("classification") if isinstance(properties, dict) else None
        if not isinstance(kind, dict):
            continue
        parts = kind.get("names", [kind.get("name")])
        color = _hex(kind.get("color", kind.get("colorRGB")))
        if color is not None and isinstance(parts, list) and all(map(_is_text, parts)):
            # A derived class is named as `read_shapes` names it.
            colors.setdefault(": ".join(parts).strip(), color)
    return colors


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _hex(color: Any) -> str | None:
    if isinstance(color, int) and not isinstance(color, bool):
        return f"#{color & 0xFFFFFF:06x}"
    if not isinstance(color, list) or len(color) not in (3, 4):
        return None
    if not all(isinstance(part, int) and 0 <= part <= 255 for part in color):
        return None
    return "#" + "".join(f"{part:02x}" for part in color[:3])


def _find_file(slide: Path, slides: Path, folders: Sequence[Path]) -> Path | None:
    """The annotations of a slide: directly in a folder, or in the slide's subfolder of it."""
    below = slide.parent.relative_to(slides) if slides.is_dir() and slide != slides else Path()
    for folder in folders:
        for place in dict.fromkeys((folder / below, folder)):
            for suffix in SUFFIXES:
                file = place / f"{slide.stem}{suffix}"
                if file.is_file():
                    return file
    return None


def listed(names: Sequence[str], limit: int = 20) -> str:
    """Names for a message, the first of many."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
