"""Which slides a training learns from, what is said about them, and how they are divided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xt_backend.errors import UsageError
from xt_backend.wording import counted, did_you_mean

from .annotations import NO_OBJECT, class_colors, classes_in, listed, pair_slides, unpaired_files
from .labels import LabelTable, label_classes, label_slides
from .patients import PatientTable, without_patient
from .spec import TrainSpec
from .splits import fold_slides, split_slides
from .truth import Source

__all__ = ["Examples", "Split", "read_examples"]


NO_OBJECT_COLOR = "#d9d9d9"


@dataclass(frozen=True)
class Split:
    """Slides of which no patient is on two sides.

    Attributes:
        train: To learn from.
        val: To choose the best epoch; empty where the last is taken.
        held_out: Seen by neither.
    """

    train: Sequence[Source]
    val: Sequence[Source]
    held_out: Sequence[Source] = ()


@dataclass(frozen=True)
class Examples:
    """All slides of a training, every label and annotation checked.

    Attributes:
        slides: To be divided, or all to learn from where `val` is given.
        val: Slides of a folder of their own; empty without.
        patients: By path of a slide.
        classes: In the order of the model's outputs.
        colors: ``#rrggbb`` of each.
        notes: What the user should know, besides warnings.
        learn_only: Paths of slides that are never held out, nor choose an epoch.
    """

    slides: Sequence[Source]
    val: Sequence[Source]
    patients: dict[str, str]
    classes: tuple[str, ...]
    colors: tuple[str, ...]
    notes: tuple[str, ...]
    learn_only: frozenset[str] = frozenset()

    def split(self, spec: TrainSpec) -> Split:
        """Keep some patients back for validation, unless it has a folder of its own.

        Raises:
            AnnotationError: There are too few patients.
        """
        if self.val:
            return Split(self.slides, self.val)
        return self._divided(self.slides, spec)

    def folds(self, spec: TrainSpec, n_folds: int) -> list[Split]:
        """Hold every part of the patients out once, and divide the others as `split` does.

        Without a validation fraction all others are learnt from.

        Raises:
            AnnotationError: There are too few patients.
        """
        by_path = self._by_path()
        splits = []
        validates = spec.val_fraction > 0
        for part in fold_slides(
            [path for path in by_path if path not in self.learn_only],
            self.patients,
            n_folds,
            spec.seed,
            validates=validates,
        ):
            held_out = set(part)
            others = [slide for path, slide in by_path.items() if path not in held_out]
            inner = self._divided(others, spec) if validates else Split(others, ())
            splits.append(Split(inner.train, inner.val, [by_path[path] for path in part]))
        return splits

    def patients_of(self, slides: Sequence[Source]) -> list[str]:
        """Whose slides these are; each its own where that is not known."""
        return [self.patients.get(str(one.path), f"slide {one.path}") for one in slides]

    def _divided(self, slides: Sequence[Source], spec: TrainSpec) -> Split:
        by_path = self._by_path()
        paths = [str(slide.path) for slide in slides]
        divided = [path for path in paths if path not in self.learn_only]
        train, val = split_slides(divided, self.patients, spec.val_fraction, spec.seed)
        train = sorted({*train, *self.learn_only})
        return Split([by_path[path] for path in train], [by_path[path] for path in val])

    def _by_path(self) -> dict[str, Source]:
        return {str(slide.path): slide for slide in self.slides}


def read_examples(spec: TrainSpec, warn: Callable[[str], object]) -> Examples:
    """Find slides and labels, and check them before any work.

    Args:
        spec: Names them.
        warn: Takes what is left out, and what is not known.

    Raises:
        InputNotFoundError: A folder or table does not exist.
        AnnotationError: Slides, labels and classes do not fit each other.
        UsageError: Validation slides, or their patients, are among those to learn from.
    """
    notes: list[str] = []
    patients: dict[str, str] = {}
    learn_only: set[str] = set()
    folders = [spec.slides] if spec.val is None else [spec.slides, spec.val]
    if spec.labels is not None:
        table = LabelTable.read(spec.labels)
        found = label_slides(table, folders, warn, strict=True)
        labelled = [slide for part in found for slide in part]
        classes = label_classes(labelled, spec.classes)
        colors = class_colors(classes, [])
        patients = {str(slide.path): slide.patient for slide in labelled if slide.patient}
        parts: list[Sequence[Source]] = [*found]
    else:
        annotations = spec.annotations or spec.slides
        pairs = [pair_slides(spec.slides, [annotations])]
        if spec.val is not None:
            pairs.append(pair_slides(spec.val, [spec.val, annotations]))
        every = [slide for part in pairs for slide in part]
        if lonely := unpaired_files(annotations, every):
            warn(f"annotations without a slide: {listed(lonely)}")
        detects = spec.task == "detection"
        classes = classes_in(every, spec.classes, warn, objects=detects)
        colors = class_colors(classes, [slide.annotations for slide in every])
        if detects:
            classes, colors = (NO_OBJECT, *classes), (NO_OBJECT_COLOR, *colors)
        parts = [*pairs]
    _check_named(spec, classes)
    slides, val = parts[0], parts[1] if len(parts) > 1 else []
    both = {slide.path.resolve() for slide in slides} & {slide.path.resolve() for slide in val}
    if both:
        names = ", ".join(sorted(path.name for path in both))
        raise UsageError(f"--slides and --val both hold {names}", "Keep validation apart")
    if spec.patients is not None:
        who = PatientTable.read(spec.patients)
        who.check([slide.path for slide in (*slides, *val)], warn)
        for slide in (*slides, *val):
            if patient := who.patient_of(slide.path):
                patients[str(slide.path)] = patient
        if barred := [one.name for one in val if who.patient_of(one.path) in who.learn_only]:
            raise UsageError(
                f"The table of patients has {barred[0]} as learn_only, and --val holds it",
                "Move it to --slides, or write no in its line",
            )
        learn_only = {path for path, patient in patients.items() if patient in who.learn_only}
        if learn_only:
            n_patients = len({patients[path] for path in learn_only})
            notes.append(
                f"{counted(len(learn_only), 'slide')} of {counted(n_patients, 'patient')} "
                "are learnt from and never held out"
            )
    whose = [{patients.get(str(one.path), "") for one in part} - {""} for part in (slides, val)]
    if shared := sorted(whose[0] & whose[1]):
        raise UsageError(
            f"Patient {shared[0]} has slides in --slides and in --val",
            "Move all slides of a patient to one side",
        )
    if patients:
        for slide in slides:
            if str(slide.path) not in patients:
                warn(without_patient(slide.name))
    return Examples(slides, val, patients, classes, colors, tuple(notes), frozenset(learn_only))


def _check_named(spec: TrainSpec, classes: Sequence[str]) -> None:
    if wrong := spec.unknown_class(classes):
        option, name = wrong
        raise UsageError(
            f"{option} names {name}, which is no class",
            f"{did_you_mean(name, classes)}The classes are: {', '.join(classes)}",
        )
