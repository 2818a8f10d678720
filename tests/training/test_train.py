from __future__ import annotations

import hashlib
import json
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.training import tiny_training

from xt_backend.engine import BatchEncoder
from xt_backend.errors import AnnotationError, LossNotFiniteError, SlideMppError, UsageError
from xt_backend.model import load_model
from xt_backend.training import (
    EvaluateSpec,
    Progress,
    TrainSpec,
    evaluate,
    fields,
    train,
)
from xt_backend.training.annotations import AnnotatedSlide
from xt_backend.training.examples import read_examples
from xt_backend.training.trainer import repeatable

from .conftest import SIDE_PX, WriteAnnotations, WriteSlide


@pytest.fixture
def spec(slides_folder: Path, tmp_path: Path) -> TrainSpec:
    return tiny_training(
        slides_folder,
        tmp_path / "two-colors.safetensors",
        cache=slides_folder / "cache",
        tokens_per_region=None,
        layers=2,
        context="mamba2",
        context_options={"state": 8},
        epochs=15,
        slides_per_step=1,
        lr=1e-2,
    )


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_train_then_evaluate(
    spec: TrainSpec,
    tmp_path: Path,
    write_slide: WriteSlide,
    write_annotations: WriteAnnotations,
) -> None:
    heard: list[Progress] = []
    result = train(spec, heard.append)
    model = load_model(spec.out)
    assert model.card == result.card
    assert model.card.class_names == ("dark", "pale")
    assert model.card.classes[0].color == "#0a141e"
    assert "4 slides with" in model.card.training_data
    assert len(result.train_slides) == 4
    assert len(result.val_slides) == 1
    assert result.context.macro_f1.value > 0.95
    assert model.card.metrics["training"]["best_epoch"] == result.best_epoch
    assert model.card.feature_stats is not None
    assert model.card.feature_stats.std == pytest.approx([1.0] * 2, rel=0.01)

    assert {one.stage for one in heard} == {
        "slides", "encode", "examples", "train", "calibrate",
    }  # fmt: skip
    epochs = [one for one in heard if one.stage == "train"]
    assert [one.done for one in epochs] == list(range(1, 16))
    assert epochs[-1].metrics["val_f1"] > epochs[0].metrics["val_f1"] - 1e-9
    log = (tmp_path / "two-colors.train.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in log.splitlines()]
    assert [row["event"] for row in rows] == ["start", *["epoch"] * 15, "end"]
    with Image.open(tmp_path / "two-colors.train.png") as picture:
        assert np.asarray(picture).std() > 0
    text = spec.out.read_bytes() + (tmp_path / "two-colors.train.jsonl").read_bytes()
    assert str(spec.slides).encode() not in text

    unseen = tmp_path / "unseen"
    write_slide(unseen / "u.tif", 224, seed=9)
    # Half of the regions are annotated wrongly.
    write_annotations(
        unseen / "u.geojson",
        [("dark", (0, 0, SIDE_PX, SIDE_PX)), ("pale", (0, 256, SIDE_PX, SIDE_PX))],
    )
    options = EvaluateSpec(
        model=str(spec.out), slides=unseen, slide_mpp=1.0, tissue="all", compare_context=True,
        use_cache=False, device="cpu", bootstrap=20,
    )  # fmt: skip
    report = evaluate(options)
    assert report.slides == {"u.tif": {"regions": 64, "failed": 0}}
    assert report.context.accuracy.value == pytest.approx(0.5, abs=0.07)
    assert report.region_only is not None
    assert report.region_only.accuracy.value == pytest.approx(0.5, abs=0.07)
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["context"]["n_regions"] == 64


def test_same_bytes_again_without_encoding(
    spec: TrainSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec.model_copy(
        update={"epochs": 3, "context_options": {"dropout": 0.2}, "out": tmp_path / "1.safetensors"}
    )
    spec = spec.model_copy(update={"name": "same"})
    train(spec)
    torch.rand(7)
    monkeypatch.setattr(BatchEncoder, "encode", lambda *args: pytest.fail("encoded again"))
    again = spec.model_copy(update={"out": tmp_path / "2.safetensors"})
    train(again)
    assert sha256(again.out) == sha256(spec.out)
    other = spec.model_copy(update={"out": tmp_path / "3.safetensors", "seed": 5})
    train(other)
    assert sha256(other.out) != sha256(spec.out)


def test_patients_and_val_folder(
    spec: TrainSpec, tmp_path: Path, write_slide: WriteSlide, write_annotations: WriteAnnotations
) -> None:
    table = tmp_path / "patients.csv"
    table.write_text("slide,patient\ns0.tif,p\ns1.tif,p\ns2,p\ns3.tif,q\n", encoding="utf-8")
    result = train(spec.model_copy(update={"epochs": 1, "patients": table, "val_fraction": 0.3}))
    sides = dict.fromkeys(result.train_slides, "train")
    sides |= dict.fromkeys(result.val_slides, "val")
    assert len({sides["s0.tif"], sides["s1.tif"], sides["s2.tif"]}) == 1
    assert any("s4.tif has no patient" in text for text in result.warnings)

    judged = EvaluateSpec(model=str(spec.out), slides=spec.slides, slide_mpp=1.0, patients=table,
                          tissue="all", device="cpu", cache=spec.cache)  # fmt: skip
    assert (
        "s4.tif has no patient in the table: taken as one of its own" in evaluate(judged).warnings
    )
    table.write_text("slide,patient\nslides/s0.tif,p\ns1.tif,\nghost,p\n", encoding="utf-8")
    with pytest.raises(AnnotationError, match="names none of the 5 slides"):
        train(spec.model_copy(update={"patients": table}))
    with pytest.raises(AnnotationError, match="names none of the 5 slides"):
        evaluate(judged)

    val = tmp_path / "val"
    write_slide(val / "v.tif", 256)
    write_annotations(val / "v.geojson", [("dark", (0, 0, 256, SIDE_PX))])
    result = train(spec.model_copy(update={"epochs": 1, "val": val}))
    assert result.val_slides == ("v.tif",)
    assert len(result.train_slides) == 5
    table.write_text("slide,patient\ns0,p1\nv,p1\ns1,p2\n")
    with pytest.raises(UsageError, match=r"Patient p1 has slides in --slides and in --val"):
        train(spec.model_copy(update={"patients": table, "val": val}))


def test_examples_of_each_class_are_counted_before_training(
    spec: TrainSpec, tmp_path: Path, write_slide: WriteSlide, write_annotations: WriteAnnotations
) -> None:
    val = tmp_path / "val"
    write_slide(val / "v.tif", 256)
    write_annotations(val / "v.geojson", [("dark", (0, 0, 256, SIDE_PX))])
    heard: list[Progress] = []
    result = train(spec.model_copy(update={"epochs": 1, "val": val}), heard.append)
    stages = [item.stage for item in heard]
    (told,) = [item for item in heard if item.stage == "examples"]
    notice, *_ = [item for item in heard if item.stage == "notice"]
    assert stages.index("examples") < stages.index("notice") < stages.index("train")
    # 5 slides of 8 x 8 regions, dark up to a border that moves on; half of the sixth.
    assert result.counts[0].train == {"dark": 160, "pale": 160}
    assert result.counts[0].val == {"dark": 32, "pale": 0}
    assert [line.split() for line in told.lines] == [
        ["regions", "training", "validation"], ["dark", "160", "32"], ["pale", "160", "0"],
    ]  # fmt: skip
    assert notice.lines[0].startswith("Warning: no validation regions are of class pale: ")
    assert "cannot be measured" in notice.lines[0]
    # Told once: who prints the lines has nothing to print of it at the end.
    assert not any("class pale" in note for note in result.notes)
    warning, *_ = result.warnings
    assert notice.lines == (f"Warning: {warning}",)
    assert warning in result.to_dict()["notes"]
    assert result.to_dict()["examples"][0]["validation"] == {"dark": 32, "pale": 0}
    with pytest.raises(UsageError, match=r"both hold s0\.tif"):
        train(spec.model_copy(update={"val": spec.slides}))


def test_broken_and_empty_slides_are_left_out_with_a_note(
    spec: TrainSpec, tmp_path: Path, write_slide: WriteSlide, write_annotations: WriteAnnotations
) -> None:
    folder = tmp_path / "slides"
    for name in ("a", "b"):
        write_slide(folder / f"{name}.tif", 256)
        write_annotations(
            folder / f"{name}.geojson",
            [("dark", (0, 0, 256, SIDE_PX)), ("pale", (256, 0, SIDE_PX, SIDE_PX))],
        )
    (folder / "broken.svs").write_bytes(b"no slide")
    write_annotations(folder / "broken.geojson", [("dark", (0, 0, 9, 9))])
    write_slide(folder / "bare.tif", 256)
    # 20 of 64 px of every region: less than 30 %.
    write_annotations(folder / "bare.geojson", [("dark", (0, 0, SIDE_PX, 16))])
    val = tmp_path / "val"
    write_slide(val / "v.tif", 256)
    write_annotations(val / "v.geojson", [("dark", (0, 0, 256, SIDE_PX))])
    result = train(spec.model_copy(update={"slides": folder, "val": val, "epochs": 1}))
    assert result.train_slides == ("a.tif", "b.tif")
    notes = "\n".join(result.warnings)
    assert "broken.svs is left out" in notes
    assert "bare.tif is left out: no region of tissue is annotated enough" in notes


def test_annotations_without_a_slide_are_told(
    slides_folder: Path, tmp_path: Path, write_annotations: WriteAnnotations
) -> None:
    folder = tmp_path / "annotations"
    for name in ("s0", "s1", "s2", "s3", "s4", "S5"):
        boxes = [("dark", (0, 0, 256, SIDE_PX)), ("pale", (256, 0, SIDE_PX, SIDE_PX))]
        write_annotations(folder / f"{name}.geojson", boxes)
    spec = tiny_training(slides_folder, tmp_path / "m.safetensors", annotations=folder, epochs=1)
    spec = spec.model_copy(update={"cache": slides_folder / "cache"})
    heard: list[Progress] = []
    result = train(spec, heard.append)
    warning = "annotations without a slide: S5.geojson"
    assert result.warnings.count(warning) == 1
    assert warning in result.to_dict()["notes"]
    # Said before anything is encoded, and once.
    stages = [one.stage for one in heard]
    said_at = [n for n, one in enumerate(heard) if one.lines == (f"Warning: {warning}",)]
    assert len(said_at) == 1
    assert said_at[0] < stages.index("encode")
    (folder / "S5.geojson").unlink()
    said: list[str] = []
    read_examples(spec, said.append)
    assert said == []


def test_no_usable_slide_is_named_with_its_reason(spec: TrainSpec) -> None:
    with pytest.raises(SlideMppError, match=r"^s\d\.tif: .*--slide-mpp"):
        train(spec.model_copy(update={"slide_mpp": None}))
    with pytest.raises(SlideMppError, match=r"^s0\.tif: .*--slide-mpp"):
        train(spec.model_copy(update={"slide_mpp": None, "stain": "macenko"}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"out": Path("model.pt")}, "safetensors"),
        (
            {"min_fraction": {"darkk": 0.2}},
            r"^--min-fraction names darkk, .*Did you mean dark\? The classes are: dark, pale\.$",
        ),
        ({"thresholds": ("other",)}, r"^thresholds names other, [\w ]+\. The classes are: dark"),
    ],
)
def test_bad_usage_is_found_before_any_work(
    spec: TrainSpec, changes: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "xt_backend.training.trainer.build_region_encoder",
        lambda *args, **kwargs: pytest.fail("built an encoder"),
    )
    with pytest.raises(UsageError, match=message):
        train(spec.model_copy(update=changes))
    with pytest.raises(AnnotationError, match=r"class other, .*hold: dark, pale"):
        train(spec.model_copy(update={"classes": ("dark", "other")}))


def test_nan_keeps_the_last_good_model(spec: TrainSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(progress: Progress) -> None:
        if progress.stage == "train" and progress.done == 2:
            monkeypatch.setattr(
                "xt_backend.training.losses.soft_cross_entropy",
                lambda logits, *args, **kwargs: logits.sum() * float("nan"),
            )

    kept_as = spec.out.with_name("two-colors.checkpoint.safetensors")
    with pytest.raises(
        LossNotFiniteError, match=r"in epoch 3, step \d+\..*epoch [12] is"
    ) as caught:
        train(spec, explode)
    assert f" is kept as {kept_as}." in str(caught.value)
    assert not spec.out.exists()
    kept = load_model(kept_as)
    assert all(value.isfinite().all() for value in kept.state_dict().values())
    monkeypatch.undo()
    train(spec.model_copy(update={"epochs": 1}))
    assert not kept_as.exists()


def test_a_training_that_fails_leaves_the_log_of_the_older_model(spec: TrainSpec) -> None:
    spec = spec.model_copy(update={"epochs": 2})
    train(spec)
    log, running = (spec.out.with_suffix(f".{name}.jsonl") for name in ("train", "running"))
    model, older = spec.out.read_bytes(), log.read_bytes()
    assert not running.exists()

    def fail(stage: str) -> list[str]:
        def stop(progress: Progress) -> None:
            if progress.stage == stage:
                raise InterruptedError

        with pytest.raises(InterruptedError):
            train(spec.model_copy(update={"seed": 1, "resume": False}), stop)
        assert (spec.out.read_bytes(), log.read_bytes()) == (model, older)
        if not running.exists():
            return []
        return [json.loads(line)["event"] for line in running.read_text().splitlines()]

    assert fail("encode") == [], "nothing was done that a log could tell"
    assert fail("train") == ["start", "epoch", "broken off"]
    train(spec.model_copy(update={"seed": 1, "resume": False}))
    assert not running.exists()
    assert json.loads(log.read_text().splitlines()[0])["seed"] == 1


def test_thresholds_and_label_rule_are_stored(spec: TrainSpec) -> None:
    result = train(
        spec.model_copy(
            update={"epochs": 1, "min_fraction": {"pale": 0.25}, "thresholds": ("pale",)}
        )
    )
    assert result.card.label_rule.min_fraction == {"pale": 0.25}
    assert set(result.card.thresholds) <= {"pale"}


def test_a_repaired_outline_is_said_aloud(
    spec: TrainSpec, tmp_path: Path, write_slide: WriteSlide, write_annotations: WriteAnnotations
) -> None:
    folder = tmp_path / "slides"
    for name in "abc":
        write_slide(folder / f"{name}.tif", 256)
        boxes = [("dark", (0, 0, 256, SIDE_PX)), ("pale", (256, 0, SIDE_PX, SIDE_PX))]
        path = write_annotations(folder / f"{name}.geojson", boxes)
    document = json.loads(path.read_text())
    ring = [[0, 0], [256, 0], [256, 512], [1, 512], [1, 510], [2, 514], [0, 514], [0, 0]]
    document["features"][0]["geometry"]["coordinates"] = [ring]
    path.write_text(json.dumps(document))
    result = train(spec.model_copy(update={"slides": folder, "epochs": 1}))
    assert any("c.geojson, dark: the outline was repaired" in note for note in result.notes)
    bow_tie = [[0, 0], [256, 512], [256, 0], [0, 512], [0, 0]]
    document["features"][0]["geometry"]["coordinates"] = [bow_tie]
    path.write_text(json.dumps(document))
    with pytest.raises(AnnotationError, match=r"c\.geojson, feature 1: .*not valid"):
        train(spec.model_copy(update={"slides": folder}))


@pytest.mark.parametrize(("strict", "only_warned"), [(False, False), (True, True), (True, False)])
def test_what_torch_was_told_before_is_put_back(strict: bool, only_warned: bool) -> None:
    torch.use_deterministic_algorithms(strict, warn_only=only_warned)
    try:
        drawn = torch.get_rng_state()
        with repeatable(3):
            assert torch.are_deterministic_algorithms_enabled()
            torch.rand(1)
        assert torch.equal(torch.get_rng_state(), drawn)
        assert torch.are_deterministic_algorithms_enabled() == strict
        assert torch.is_deterministic_algorithms_warn_only_enabled() == only_warned
    finally:
        torch.use_deterministic_algorithms(False)


def test_features_of_validation_slides_are_not_held(
    spec: TrainSpec,
    tmp_path: Path,
    write_slide: WriteSlide,
    write_annotations: WriteAnnotations,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    val = tmp_path / "val"
    for name in "abc":
        write_slide(val / f"{name}.tif", 256)
        write_annotations(val / f"{name}.geojson", [("dark", (0, 0, 256, SIDE_PX))])
    held: dict[str, int] = {}
    seen: list[weakref.ref[object]] = []
    load = fields.load_field

    def watched(slide: AnnotatedSlide, *args: object, **options: object) -> object:
        held[slide.name] = sum(ref() is not None for ref in seen)
        found = load(slide, *args, **options)
        seen.append(weakref.ref(found))
        return found

    monkeypatch.setattr(fields, "load_field", watched)
    train(spec.model_copy(update={"val": val, "epochs": 1}))
    assert max(held.values()) > 0  # the whitening needs those of training
    assert [held[f"{name}.tif"] for name in "abc"] == [0, 0, 0]


def test_classes_that_are_not_named_teach_nothing(
    spec: TrainSpec, tmp_path: Path, write_slide: WriteSlide, write_annotations: WriteAnnotations
) -> None:
    folder = tmp_path / "slides"
    boxes = [("dark", (0, 0, 256, SIDE_PX)), ("pale", (256, 0, SIDE_PX, SIDE_PX))]
    for name in "abc":
        write_slide(folder / f"{name}.tif", 256)
        write_annotations(folder / f"{name}.geojson", [*boxes, ("Fold", (0, 0, 9, 9))])
    changes = {"slides": folder, "epochs": 1, "classes": ("dark", "pale")}
    result = train(spec.model_copy(update=changes))
    assert result.card.class_names == ("dark", "pale")
    assert result.counts[0].train == {"dark": 64, "pale": 64}
    left_out = "annotations of classes that {} are left out: Fold (3, in a.geojson)"
    assert left_out.format("--classes does not name") in result.warnings
    judged = EvaluateSpec(
        model=str(spec.out), slides=folder, slide_mpp=1.0, tissue="all", device="cpu",
        cache=spec.cache, bootstrap=0,
    )  # fmt: skip
    way_out = r"know: Fold \(3, in a\.geojson\).*knows: dark, pale\..*--leave-out Fold"
    with pytest.raises(AnnotationError, match=way_out):
        evaluate(judged)
    with pytest.raises(UsageError, match=r"pale is a class of two-colors and cannot"):
        evaluate(judged.model_copy(update={"leave_out": ("pale", "Fold")}))
    judged = judged.model_copy(update={"leave_out": ("Fold",)})
    report = evaluate(judged)
    (warning,) = report.warnings
    assert warning.startswith(left_out.format("two-colors does not know"))
    assert warning in report.to_dict()["notes"]
    assert report.context.n_regions == 3 * 64
    for name in "abc":
        write_annotations(folder / f"{name}.geojson", [("Fold", (0, 0, 256, 256))])
    with pytest.raises(AnnotationError, match=r"only Fold \(3, in a\.geojson\).*knows: dark, pale"):
        evaluate(judged)
