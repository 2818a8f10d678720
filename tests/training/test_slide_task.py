"""One label a slide: from a table to a model, its evaluation and its score."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import tifffile
from support.training import tiny_training

from xt_backend import score
from xt_backend.errors import AnnotationError, InputNotFoundError, UsageError
from xt_backend.model import load_model
from xt_backend.training import EvaluateSpec, TrainSpec, evaluate, train
from xt_backend.training.labels import LabelTable, label_classes, label_slides

from .conftest import SIDE_PX, WriteSlide


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten slides, half of which hold a dark corner: those are "tumour"."""
    folder = tmp_path_factory.mktemp("labelled")
    rows = [("slide", "label", "patient")]
    for index in range(10):
        rng = np.random.default_rng(index)
        pixels = np.empty((SIDE_PX, SIDE_PX, 3))
        pixels[:] = (230, 160, 190)
        if index % 2:
            x, y = rng.integers(0, 3, 2) * 128
            pixels[y : y + 128, x : x + 128] = (96, 40, 120)
        pixels += rng.normal(0, 12, pixels.shape)
        tifffile.imwrite(
            folder / f"s{index}.tif",
            np.clip(pixels, 0, 255).astype(np.uint8),
            tile=(128, 128),
            photometric="rgb",
        )
        # Two slides a patient, one of each class.
        name = f"s{index}.tif" if index < 5 else f"s{index}"
        rows.append((name, "tumour" if index % 2 else "normal", f"p{index // 2}"))
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


@pytest.fixture
def spec(labelled: Path, tmp_path: Path) -> TrainSpec:
    return tiny_training(
        labelled,
        tmp_path / "slide.safetensors",
        labels=labelled / "labels.csv",
        cache=labelled / "cache",
        layers=2,
        epochs=25,
        slides_per_step=2,
        lr=1e-2,
        token_noise=0.1,
        token_dropout=0.0,
    )


@pytest.mark.parametrize("head", ["class-token", "attention-mil"])
def test_train_evaluate_score(spec: TrainSpec, labelled: Path, tmp_path: Path, head: str) -> None:
    result = train(spec.model_copy(update={"slide_head": head}))
    card = load_model(spec.out).card
    assert (card.task, card.slide_head.kind) == ("slide", head)
    assert card.class_names == ("normal", "tumour")
    patients = {name: int(name[1]) // 2 for name in (*result.train_slides, *result.val_slides)}
    of_train = {patients[name] for name in result.train_slides}
    assert of_train.isdisjoint(patients[name] for name in result.val_slides)
    assert result.context.n_regions == len(result.val_slides) == 2

    report = evaluate(
        EvaluateSpec(
            model=str(spec.out),
            slides=labelled,
            labels=labelled / "labels.csv",
            compare_context=True,
            cache=spec.cache,
            slide_mpp=1.0,
            tissue="all",
            bootstrap=20,
        )
    )
    assert report.context.n_regions == report.context.n_slides == 10
    assert report.context.accuracy.value == 1.0
    assert report.region_only is not None

    run = score(
        [labelled / "s0.tif", labelled / "s1.tif"],
        str(spec.out),
        tmp_path / "out",
        slide_mpp=1.0,
        tissue="all",
        cache=spec.cache,
    )
    assert run.slides["predicted"].tolist() == ["normal", "tumour"]
    assert (run.slides["prob_tumour"] > 0.5).tolist() == [False, True]


def test_a_single_label_is_refused_before_anything_is_encoded(
    spec: TrainSpec, labelled: Path, tmp_path: Path
) -> None:
    table = tmp_path / "labels.csv"
    rows = [f"s{n},{'tumour' if n < 2 else 'normal'},p{min(n, 3) // 2}" for n in range(10)]
    table.write_text("\n".join(["slide,label,patient", *rows]), encoding="utf-8")
    stages: list[str] = []
    with pytest.raises(AnnotationError, match=r"teach only (normal|tumour)"):
        train(
            spec.model_copy(update={"labels": table}),
            lambda progress: stages.append(progress.stage),
        )
    assert "encode" not in stages


def test_a_slide_that_cannot_be_read_counts_as_wrong(
    spec: TrainSpec, labelled: Path, tmp_path: Path, write_slide: WriteSlide
) -> None:
    train(spec.model_copy(update={"epochs": 2}))
    unseen = tmp_path / "unseen"
    write_slide(unseen / "a.tif")
    (unseen / "b.svs").write_bytes(b"no slide")
    labels = tmp_path / "labels.csv"
    labels.write_text("slide,label\na,tumour\nb.svs,normal\nelsewhere,normal\n", encoding="utf-8")
    report = evaluate(
        EvaluateSpec(
            model=str(spec.out), slides=unseen, labels=labels, slide_mpp=1.0, tissue="all",
            bootstrap=0,
        )
    )  # fmt: skip
    assert "b.svs" in report.failed
    assert report.context.n_regions == 2
    assert report.context.n_failed == 1
    assert report.context.accuracy.value <= 0.5
    assert any("elsewhere" in text for text in report.warnings)
    with pytest.raises(UsageError, match="--labels"):
        evaluate(EvaluateSpec(model=str(spec.out), slides=unseen))
    labels.write_text("slide,label\na,other\nb,normal\n", encoding="utf-8")
    with pytest.raises(AnnotationError, match=r"other \(of a\.tif\)"):
        evaluate(EvaluateSpec(model=str(spec.out), slides=unseen, labels=labels))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slide\na\n", "no column 'label'"),
        ("slide,label\n", "labels no slide"),
        ("slide,label\na,\n", "line 2: the label is missing"),
        ("slide,label\na,x\na,y\n", "names slide a twice"),
        ("slide,label\na,x\nb,y\n", r"no label for c\.tif"),
        ("slide,label\na,x\nb,y\nc,x\nd,x\n", "no slide for d"),
        ("slide,label\na,x\nb,x\nc,x\n", "All slides have the label x"),
    ],
)
def test_bad_tables_are_refused_before_any_work(
    text: str, message: str, tmp_path: Path, write_slide: WriteSlide
) -> None:
    folder = tmp_path / "slides"
    for name in "abc":
        write_slide(folder / f"{name}.tif")
    table = tmp_path / "labels.csv"
    table.write_text(text, encoding="utf-8")
    with pytest.raises(AnnotationError, match=message):
        train(TrainSpec(slides=folder, labels=table, out=tmp_path / "m.safetensors"))


def test_classes_of_a_table(tmp_path: Path, write_slide: WriteSlide) -> None:
    for name in "ab":
        write_slide(tmp_path / f"{name}.tif")
    table = LabelTable("t.csv", {"a.tif": ("x", "p"), "b": ("y", "")})
    said: list[str] = []
    (slides,) = label_slides(table, [tmp_path], said.append, strict=True)
    assert [(one.name, one.label, one.patient) for one in slides] == [
        ("a.tif", "x", "p"),
        ("b.tif", "y", ""),
    ]
    assert said == []
    assert label_classes(slides, None) == ("x", "y")
    assert label_classes(slides, ("y", "x")) == ("y", "x")
    with pytest.raises(AnnotationError, match=r"y \(of b\.tif\)"):
        label_classes(slides, ("x",))
    with pytest.raises(AnnotationError, match=r"label yy, .*Did you mean y\? The labels are: x, y"):
        label_classes(slides, ("x", "yy"))
    with pytest.raises(AnnotationError, match="No slide has the label z"):
        label_classes(slides, ("x", "y", "z"))
    with pytest.raises(InputNotFoundError, match="nowhere"):
        label_slides(table, [tmp_path / "nowhere"], said.append, strict=True)


def test_task_and_labels_belong_together(tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    assert TrainSpec(slides=tmp_path, labels=tmp_path / "l.csv", out=out).task == "slide"
    for wrong in (
        {"task": "slide"},
        {"task": "region", "labels": "l.csv"},
        {"labels": "l.csv", "annotations": "a"},
        {"labels": "l.csv", "field_regions": 4},
        {"labels": "l.csv", "min_fraction": {"x": 0.5}},
    ):
        with pytest.raises(UsageError):
            TrainSpec.checked({"slides": tmp_path, "out": out, **wrong})


def test_folds_hold_every_slide_out_once(spec: TrainSpec) -> None:
    result = train(spec.model_copy(update={"folds": 3, "epochs": 12}))
    assert result.folds == 3
    assert len(result.train_slides) == 10
    assert result.val_slides == ()
    assert result.context.n_regions == 10
    card = load_model(spec.out).card
    assert card.metrics["cross_validation"]["n_regions"] == 10
    assert "had not seen its patient" in card.metrics["note"]
    assert [path.name for path in spec.out.parent.glob("*.resume.*")] == []
    with pytest.raises(UsageError, match="exclude each other"):
        train(spec.model_copy(update={"folds": 3, "val": spec.slides}))
    with pytest.raises(AnnotationError, match="5 patient"):
        train(spec.model_copy(update={"folds": 6}))
