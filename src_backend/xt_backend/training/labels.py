"""One label a slide, from a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from xt_backend.errors import AnnotationError, InputNotFoundError
from xt_backend.slides import find_slides
from xt_backend.wording import did_you_mean

from .annotations import listed
from .patients import read_slide_table

__all__ = ["LabelTable", "LabelledSlide", "label_classes", "label_slides"]


@dataclass(frozen=True)
class LabelledSlide:
    """A slide and what it is.

    Attributes:
        path: Slide file or DICOM folder.
        label: Its class.
        patient: Whose slide it is; empty where the table does not say.
    """

    path: Path
    label: str
    patient: str = ""

    @property
    def name(self) -> str:
        """The slide's file name."""
        return self.path.name


@dataclass(frozen=True)
class LabelTable:
    """A CSV file with the columns ``slide`` and ``label``, and ``patient`` if known.

    Attributes:
        name: Of the file.
        rows: (label, patient) by slide as the table names it: file name or stem.
    """

    name: str
    rows: dict[str, tuple[str, str]]

    @classmethod
    def read(cls, path: Path) -> LabelTable:
        """Read the file.

        Raises:
            InputNotFoundError: There is no such file.
            AnnotationError: A column or a label is missing, or a slide stands there twice.
        """
        if not path.is_file():
            raise InputNotFoundError(f"There is no table {path}", "Check --labels")
        rows: dict[str, tuple[str, str]] = {}
        for row in read_slide_table(path, ("slide", "label"), "slide,label or slide,label,patient"):
            slide, label = row.values["slide"], row.values["label"]
            if not slide and not label:
                continue
            if not slide or not label:
                raise AnnotationError(
                    f"{path.name}, line {row.line}: the {'label' if slide else 'slide'} is missing",
                    "Fill it in or remove the line",
                )
            if slide in rows:
                raise AnnotationError(
                    f"{path.name} names slide {slide} twice", "Keep one line a slide"
                )
            rows[slide] = label, row.values.get("patient", "")
        if not rows:
            raise AnnotationError(f"{path.name} labels no slide", "Write one line a slide")
        return cls(path.name, rows)


def label_slides(
    table: LabelTable, folders: Sequence[Path], warn: Callable[[str], object], *, strict: bool
) -> list[list[LabelledSlide]]:
    """Give every slide of some folders its label.

    Args:
        table: The labels.
        folders: Folders of slides, or single slides.
        warn: Is told of such rows where they are not refused.
        strict: Refuse rows of the table whose slide is in no folder.

    Returns:
        The slides of each folder.

    Raises:
        InputNotFoundError: A folder does not exist.
        AnnotationError: Slides and labels do not match; all are named.
    """
    used: dict[str, str] = {}
    unlabelled: list[str] = []
    found: list[list[LabelledSlide]] = []
    for folder in folders:
        if not folder.exists():
            raise InputNotFoundError(f"There is no folder {folder}", "Check the path")
        paths = find_slides([folder]).slides
        if not paths:
            raise AnnotationError(f"{folder} holds no slides", "Give the folder with the slides")
        here = []
        for path in paths:
            key = next((key for key in (path.name, path.stem) if key in table.rows), None)
            if key is None:
                unlabelled.append(path.name)
                continue
            if (other := used.setdefault(key, path.name)) != path.name:
                raise AnnotationError(
                    f"{other} and {path.name} have the same stem, so the label of {key} would "
                    "belong to both",
                    f"Write the whole file names into {table.name}",
                )
            here.append(LabelledSlide(path, *table.rows[key]))
        found.append(here)
    spare = [key for key in table.rows if key not in used]
    problems = []
    if unlabelled:
        problems.append(f"no label for {listed(unlabelled)}")
    if spare and (strict or unlabelled):
        problems.append(f"no slide for {listed(spare)}")
    if problems:
        raise AnnotationError(
            f"Slides and labels of {table.name} do not match: {'; '.join(problems)}",
            "Name every slide once, by its file name with or without extension, and no other",
        )
    if spare:
        warn(f"{table.name} also labels slides that are not here: {listed(spare)}")
    return found


def label_classes(slides: Sequence[LabelledSlide], wanted: Sequence[str] | None) -> tuple[str, ...]:
    """Decide on the classes.

    Args:
        slides: Of training and validation.
        wanted: Names in the order of the model's outputs; None takes all that occur, sorted.

    Raises:
        AnnotationError: A class is unknown, never occurs or is named twice, or there are fewer
            than two.
    """
    occur = sorted({slide.label for slide in slides})
    classes = tuple(occur if wanted is None else wanted)
    if repeated := sorted({name for name in classes if classes.count(name) > 1}):
        raise AnnotationError(f"Classes are named twice: {listed(repeated)}", "See --classes")
    if absent := [name for name in classes if name not in occur]:
        raise AnnotationError(
            f"No slide has the label {listed(absent)}, which --classes names",
            f"{did_you_mean(absent[0], occur)}The labels are: {listed(occur)}",
        )
    if unknown := sorted(set(occur) - set(classes)):
        first = {slide.label: slide.name for slide in reversed(slides)}
        where = listed([f"{name} (of {first[name]})" for name in unknown])
        raise AnnotationError(
            f"The table holds labels that --classes does not name: {where}",
            "Name all of them, or remove these slides",
        )
    if len(classes) < 2:
        raise AnnotationError(
            f"All slides have the label {listed(classes)}", "A model needs at least two classes"
        )
    return classes
