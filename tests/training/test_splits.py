from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xt_backend.errors import AnnotationError, InputNotFoundError
from xt_backend.training.labels import LabelTable
from xt_backend.training.patients import PatientTable
from xt_backend.training.splits import draw_order, fold_slides, split_slides

SLIDES = [f"slide-{index}" for index in range(12)]


@given(
    patients=st.lists(st.integers(0, 5), min_size=12, max_size=12).filter(
        lambda ids: len(set(ids)) > 1
    ),
    val_fraction=st.floats(0.0, 1.0),
    seed=st.integers(0, 100),
)
def test_patients_are_never_divided(patients: list[int], val_fraction: float, seed: int) -> None:
    of = {slide: str(patient) for slide, patient in zip(SLIDES, patients, strict=True)}
    train, val = split_slides(SLIDES, of, val_fraction, seed)
    assert sorted(train + val) == sorted(SLIDES)
    assert train
    assert val
    assert not {of[slide] for slide in train} & {of[slide] for slide in val}


def test_share_is_met_and_depends_on_seed_not_order() -> None:
    train, val = split_slides(SLIDES, {}, 0.25, seed=3)
    assert (len(train), len(val)) == (9, 3)
    assert split_slides(SLIDES[::-1], {}, 0.25, seed=3) == (train, val)
    assert any(split_slides(SLIDES, {}, 0.25, seed)[1] != val for seed in range(5))


def test_a_slide_named_like_a_patient_is_another_patient() -> None:
    train, val = split_slides(["a", "b"], {"a": "b"}, 0.5, seed=0)
    assert len(train) == len(val) == 1


def test_one_patient_cannot_be_divided() -> None:
    with pytest.raises(AnnotationError, match=r"2 slides of 1 patient.*--val"):
        split_slides(["a", "b"], {"a": "p", "b": "p"}, 0.25, seed=0)


def test_patients_table(tmp_path: Path) -> None:
    path = tmp_path / "patients.csv"
    path.write_text("slide,label,patient\na.svs,x,p1\nb.svs,x,\n a.svs ,x,p1\n", encoding="utf-8")
    assert PatientTable.read(path).patients == {"a.svs": "p1"}
    path.write_text("slide,patient\na.svs,p1\na.svs,p2\n", encoding="utf-8")
    with pytest.raises(AnnotationError, match=r"a\.svs to patients p1 and p2"):
        PatientTable.read(path)
    path.write_text("slide,label\n", encoding="utf-8")
    with pytest.raises(AnnotationError, match="no column 'patient'"):
        PatientTable.read(path)
    with pytest.raises(InputNotFoundError):
        PatientTable.read(tmp_path / "none.csv")


def test_a_table_of_patients_is_compared_with_the_slides(tmp_path: Path) -> None:
    table = PatientTable({"a": "p1", "b.svs": "p2", "ghost.svs": "p3"})
    slides = [tmp_path / "a.svs", tmp_path / "b.svs", tmp_path / "c.svs"]
    said: list[str] = []
    PatientTable({"a": "p1"}).check(slides, said.append)
    assert said == []
    table.check(slides, said.append)
    assert said == ["the table of patients has 1 slide that is not here: ghost.svs"]
    for none in (PatientTable({}), PatientTable({"/data/a.svs": "p1", "A.SVS": "p1"})):
        with pytest.raises(AnnotationError, match=r"none of the 3 slides.*as a\.svs, without"):
            none.check(slides, said.append)


def test_patients_that_are_only_learnt_from(tmp_path: Path) -> None:
    path = tmp_path / "patients.csv"
    lines = ["slide,patient,learn_only", "a,p1,", "b,p2,Yes", "c,p2,yes", "d,p3,no"]
    path.write_text("\n".join(lines), encoding="utf-8")
    table = PatientTable.read(path)
    assert table.learn_only == {"p2"}
    assert [table.patient_of(Path("x", name)) for name in ("b.svs", "c", "e")] == ["p2", "p2", ""]
    path.write_text("\n".join([*lines, "e,p2,no"]), encoding="utf-8")
    with pytest.raises(AnnotationError, match=r"yes and no for slides of patient p2"):
        PatientTable.read(path)
    path.write_text("\n".join([*lines, "e,p5,perhaps"]), encoding="utf-8")
    with pytest.raises(AnnotationError, match=r"line 6: learn_only is 'perhaps'"):
        PatientTable.read(path)


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_tables_of_any_spreadsheet_are_read(tmp_path: Path, mark: str) -> None:
    path = tmp_path / "table.csv"
    lines = ("Slide ,LABEL,Patient,Note", "a.svs, x ,p1,", "", "b.svs,y,p2,,")
    text = "\r\n".join(lines).replace(",", mark)
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert PatientTable.read(path).patients == {"a.svs": "p1", "b.svs": "p2"}
    assert LabelTable.read(path).rows == {"a.svs": ("x", "p1"), "b.svs": ("y", "p2")}


@pytest.mark.parametrize("read", [PatientTable.read, LabelTable.read])
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"slide,label,patient\nM\xfcller.svs,x,p\n", "not UTF-8"),
        (b'slide,label,patient\n"never closed\n', "no CSV table"),
        (b"slide,label,patient\nM,A.svs,x,p\n", "line 2: there are more cells"),
        (b"slide,label,patient,Slide\n", "the column 'slide' twice"),
        (b"", "no column 'slide' and no column"),
    ],
)
def test_a_table_that_is_none_is_told(
    tmp_path: Path, read: Callable[[Path], object], data: bytes, said: str
) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(data)
    with pytest.raises(AnnotationError, match=said):
        read(path)


def test_folds_need_fewer_patients_without_validation() -> None:
    slides = ["a1", "a2", "b1"]
    patients = {"a1": "a", "a2": "a", "b1": "b"}
    with pytest.raises(AnnotationError, match="two patients outside"):
        fold_slides(slides, patients, 2, 0)
    folds = fold_slides(slides, patients, 2, 0, validates=False)
    assert sorted(folds) == [["a1", "a2"], ["b1"]]
    with pytest.raises(AnnotationError, match="with a patient outside"):
        fold_slides(slides[:2], patients, 2, 0, validates=False)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(1, 60), st.integers(0, 99))
def test_patients_are_drawn_evenly(owners: list[int], n_views: int, seed: int) -> None:
    """And of one patient all slides before any of them comes again."""
    patients = [f"p{owner}" for owner in owners]
    order = draw_order(len(owners), n_views, patients, np.random.default_rng(seed))
    assert len(order) == n_views
    drawn = {name: [i for i in order if patients[i] == name] for name in set(patients)}
    counts = [len(found) for found in drawn.values()]
    assert max(counts) - min(counts) <= 1
    for name, found in drawn.items():
        times = [found.count(index) for index, owner in enumerate(patients) if owner == name]
        assert max(times) - min(times) <= 1
    plain = draw_order(len(owners), len(owners), (), np.random.default_rng(seed))
    # As ever since the bundled model was trained: its recipe gives its weights again.
    assert plain == np.random.default_rng(seed).permutation(len(owners)).tolist()
