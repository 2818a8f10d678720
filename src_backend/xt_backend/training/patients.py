"""Tables about slides, and what one of them says about patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from xt_backend.errors import AnnotationError, InputNotFoundError
from xt_backend.tables import TableRow, read_table
from xt_backend.wording import counted

from .annotations import listed

__all__ = ["PatientTable", "read_slide_table", "without_patient"]

_LEARN_ONLY = {"yes": True, "no": False, "": False}


@dataclass(frozen=True)
class PatientTable:
    """Whose slides these are.

    Attributes:
        patients: By slide as the table names it.
        learn_only: Patients whose slides are learnt from but never held out: they are of another
            kind than those that the model is for, and what it makes of them says little.
    """

    patients: dict[str, str]
    learn_only: frozenset[str] = frozenset()

    @classmethod
    def read(cls, path: Path) -> PatientTable:
        """Read a CSV file with columns ``slide``, ``patient`` and perhaps ``learn_only``.

        Rows without a slide or a patient are left out.

        Raises:
            InputNotFoundError: There is no such file.
            AnnotationError: It is no CSV table with these columns, a slide has two patients, or a
                patient is learnt from only and is not.
        """
        if not path.is_file():
            raise InputNotFoundError(f"There is no table {path}", "Check --patients")
        patients: dict[str, str] = {}
        only: dict[str, bool] = {}
        for row in read_slide_table(path, ("slide", "patient"), "slide,patient[,learn_only]"):
            slide, patient = row.values["slide"], row.values["patient"]
            if not patient or not slide:
                continue
            if patients.setdefault(slide, patient) != patient:
                raise AnnotationError(
                    f"{path.name} gives slide {slide} to patients {patients[slide]} and {patient}",
                    "One slide belongs to one patient",
                )
            word = row.values.get("learn_only", "").lower()
            if word not in _LEARN_ONLY:
                raise AnnotationError(
                    f"{path.name}, line {row.line}: learn_only is {word!r}", "Write yes or no"
                )
            if only.setdefault(patient, _LEARN_ONLY[word]) != _LEARN_ONLY[word]:
                raise AnnotationError(
                    f"{path.name} has learn_only yes and no for slides of patient {patient}",
                    "Give all slides of a patient the same",
                )
        return cls(patients, frozenset(name for name, value in only.items() if value))

    def patient_of(self, slide: Path) -> str:
        """The patient of a slide, named in the table with or without its suffix; empty if not."""
        return self.patients.get(slide.name) or self.patients.get(slide.stem) or ""

    def check(self, slides: Sequence[Path], warn: Callable[[str], object]) -> None:
        """Compare the table with the slides at hand.

        Args:
            slides: Their files.
            warn: Is told of rows of other slides, if there are any.

        Raises:
            AnnotationError: It names none of the slides.
        """
        if slides and not any(map(self.patient_of, slides)):
            raise AnnotationError(
                f"The table of patients names none of the {counted(len(slides), 'slide')}",
                f"Its column slide holds names as {slides[0].name}, without folders; its column "
                "patient says whose they are",
            )
        names = {name for slide in slides for name in (slide.name, slide.stem)}
        strange = [name for name in self.patients if name not in names]
        if strange:
            n = counted(len(strange), "slide that is", "slides that are")
            warn(f"the table of patients has {n} not here: {listed(strange)}")


def without_patient(name: str) -> str:
    """The warning about a slide whose patient is not known, though those of others are."""
    return f"{name} has no patient in the table: taken as one of its own"


def read_slide_table(path: Path, needed: Sequence[str], wanted: str) -> list[TableRow]:
    """Read a table about slides.

    Args:
        path: The file, which exists.
        needed: Columns that it must have.
        wanted: Its first line as it may be.

    Raises:
        AnnotationError: It is no such table, or a line has more cells than columns.
    """
    rows = read_table(
        path,
        path.name,
        needed,
        AnnotationError,
        way_out=f"Its first line must name the columns: {wanted}",
    )
    for row in rows:
        if row.surplus:
            raise AnnotationError(
                f"{path.name}, line {row.line}: there are more cells than columns",
                "Put names with commas in quotes",
            )
    return rows
