"""Correcting a model: what was corrected is learnt, and nothing else is forgotten."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.annotations import write_annotations

from xt_backend import Backend, RunFailed, score
from xt_backend.engine import BatchEncoder, Device, EncoderChoice, Way, choose_device
from xt_backend.engine.encoders.choice import Trial, choice_key, recall_choice
from xt_backend.engine.events import JobFinished, JobTold
from xt_backend.errors import AnnotationError, ModelError, OutputConflictError, UsageError
from xt_backend.keys import RunFile
from xt_backend.model import XT, load_model, read_card, save_model
from xt_backend.store import ScoreMap
from xt_backend.training import Progress
from xt_backend.training.tuning import (
    Correction,
    TuneJob,
    TuneSpec,
    corrections_in,
    targets,
    tune,
    tuner,
)
from xt_backend.training.tuning import fields as tuning_fields
from xt_backend.training.tuning.targets import held_shares

LEFT, RIGHT = (288, 288, 512, 736), (512, 288, 736, 736)
"""Halves of the block of tissue of `tissue_slide`."""


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def corrected(tissue_slide: Path, tiny_model: Path, tmp_path: Path) -> Callable[..., TuneSpec]:
    """A tuning of the tiny model on boxes of classes."""

    def make(*boxes: tuple[str, tuple[int, int, int, int]], **changes: Any) -> TuneSpec:
        annotations = write_annotations(tmp_path / "block.geojson", list(boxes))
        values = {
            "model": str(tiny_model),
            "corrections": (Correction(slide=tissue_slide, annotations=annotations),),
            "out": tmp_path / "corrected.safetensors",
            "device": "cpu",
        }
        return TuneSpec(**{**values, **changes})

    return make


def predicted(model: Path, slide: Path, out: Path, encoded: int) -> ScoreMap:
    run = score([slide], str(model), out, device="cpu")
    assert run.rows[0].encoded_regions == encoded
    return ScoreMap.load(out / f"{run.rows[0].id}{RunFile.SCORE_MAP}")


def test_corrections_are_learnt_and_told(
    corrected: Callable[..., TuneSpec], tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    before = predicted(tiny_model, tissue_slide, tmp_path / "first", 16)
    wrong = "tumour" if before.classes[before.labels()[0]] == "normal" else "normal"
    told: list[Progress] = []
    result = tune(corrected((wrong, LEFT), keep=0.0), told.append)
    assert result is not None
    n = sum(result.change.corrected.values())
    assert result.change.corrected[wrong] == n > 3
    assert result.change.agreement[1] == 1.0 > result.change.agreement[0]
    assert told[-1].done == told[-1].total == len(result.losses)
    assert result.losses[-1] < result.losses[0]
    # The new model says so too, and finds every region in the store.
    after = predicted(result.model, tissue_slide, tmp_path / "second", 0)
    boxes = after.lattice.boxes(after.cells)
    inside = (boxes[:, 0] >= LEFT[0]) & (boxes[:, 2] <= LEFT[2])
    inside &= (boxes[:, 1] >= LEFT[1]) & (boxes[:, 3] <= LEFT[3])
    assert inside.sum() > 1
    assert (after.labels()[inside] == after.classes.index(wrong)).all()


def test_the_card_tells_where_a_model_comes_from(
    corrected: Callable[..., TuneSpec], tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    spec = corrected(("normal", LEFT), ("tumour", RIGHT))
    result = tune(spec)
    assert result is not None
    card, parent = read_card(result.model), read_card(tiny_model)
    tuning = card.metrics["tuning"]
    assert tuning["parent"] == {"name": parent.name, "sha256": parent.state_sha256}
    assert card.name == "corrected" != parent.name
    assert card.state_sha256 != parent.state_sha256
    assert card.region_encoder.sha256 == parent.region_encoder.sha256
    assert sum(tuning["corrected"].values()) == sum(result.change.corrected.values())
    assert "is no measure" in card.metrics["note"]
    assert "1 slide, from tiny" in card.training_data
    text = card.to_json()
    assert "block" not in text
    assert str(tissue_slide.parent) not in text
    # Whoever scores that slide with it is told, and nobody else.
    found = predicted(result.model, tissue_slide, tmp_path / "run", 0)
    assert any("corrected by hand on this very slide" in one for one in found.run_meta["warnings"])
    grand = tune(
        spec.model_copy(update={"model": str(result.model), "out": tmp_path / "3.safetensors"})
    )
    assert grand is not None
    assert grand.card.metrics["tuning"]["earlier"]["parent"]["name"] == parent.name


def test_the_same_seed_gives_the_same_file(corrected: Callable[..., TuneSpec]) -> None:
    spec = corrected(("normal", LEFT), learns="context", steps=2)
    files = []
    for seed, name in ((0, "a"), (0, "b"), (1, "c")):
        out = spec.out.with_name(f"{name}.safetensors")
        assert tune(spec.model_copy(update={"out": out, "seed": seed, "name": "same"}))
        files.append(out.read_bytes())
    assert files[0] == files[1] != files[2]


def test_what_learns_changes_and_nothing_else(
    corrected: Callable[..., TuneSpec], tiny_model: Path
) -> None:
    old = load_model(tiny_model).state_dict()

    def changed(learns: str) -> set[str]:
        spec = corrected(("normal", LEFT), learns=learns, steps=2)
        result = tune(spec.model_copy(update={"out": spec.out.with_name(f"{learns}.safetensors")}))
        assert result is not None
        new = load_model(result.model).state_dict()
        names = {name for name in new if not torch.equal(new[name], old[name])}
        return {name.split(".")[0] for name in names}

    assert changed("head") == {"region_head", "region_only_head"}
    assert changed("context") == {"region_head", "region_only_head", "reduce", "context"}


def test_one_encoder_serves_all_slides_and_what_was_measured_is_remembered(
    corrected: Callable[..., TuneSpec],
    tissue_slide: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    made: list[Way] = []

    def counted(net: Any, device: Device, way: Way, folder: Path | None) -> BatchEncoder:
        made.append(way)
        return BatchEncoder(net, device, way, folder)

    torch_way = Way("torch", "fp32")
    few = EncoderChoice(torch_way, "too few regions")
    measured = EncoderChoice(torch_way, "measured", (Trial(torch_way, 1.0, 0.0),), 96)
    choices = iter([few, measured])
    monkeypatch.setattr(tuner, "BatchEncoder", counted)
    monkeypatch.setattr(tuning_fields, "settle_encoder", lambda *args: next(choices))
    spec = corrected(("normal", LEFT), ("tumour", RIGHT), steps=1)
    second = shutil.copy(tissue_slide, tmp_path / "second.tiff")
    (one,) = spec.corrections
    both = (one, one.model_copy(update={"slide": Path(second)}))
    result = tune(spec.model_copy(update={"corrections": both}))
    assert result is not None
    assert made == [torch_way]
    device = choose_device("cpu")
    key = choice_key({"model": result.card.state_sha256}, device, "auto", "auto")
    assert recall_choice(key) == measured


def test_no_model_is_overwritten_and_a_cancelled_tuning_leaves_nothing(
    corrected: Callable[..., TuneSpec], tiny_model: Path
) -> None:
    spec = corrected(("normal", LEFT))
    assert tune(spec, cancelled=lambda: True) is None
    assert not spec.out.exists()
    spec.out.write_bytes(b"mine")
    with pytest.raises(OutputConflictError, match="there already"):
        tune(spec)
    assert spec.out.read_bytes() == b"mine"
    with pytest.raises(UsageError, match="no name of a model"):
        tune(spec.model_copy(update={"out": Path("model.pt")}))


def test_corrections_that_teach_nothing_are_refused_with_a_reason(
    corrected: Callable[..., TuneSpec],
) -> None:
    with pytest.raises(AnnotationError, match="names none of the model's classes, only bone"):
        tune(corrected(("bone", LEFT)))
    with pytest.raises(AnnotationError, match="cover no region of tissue to at least 30%"):
        tune(corrected(("normal", (0, 0, 40, 40))))
    result = tune(corrected(("bone", RIGHT), ("normal", LEFT)))
    assert result is not None
    assert "does not know it: bone" in result.notes[0]


@pytest.mark.parametrize("task", ["slide", "dense"])
def test_models_without_labels_of_regions_are_refused(
    corrected: Callable[..., TuneSpec], tiny_model: Path, tmp_path: Path, task: str
) -> None:
    from xt_backend.model import XT

    model = load_model(tiny_model)
    card = model.card.model_copy(update={"task": task})
    other = tmp_path / f"{task}.safetensors"
    save_model(XT(card, model.region_encoder), other)
    with pytest.raises(ModelError, match=r"no region to correct|which do not follow"):
        tune(corrected(("normal", LEFT), model=str(other)))


def test_in_a_process_of_its_own(corrected: Callable[..., TuneSpec]) -> None:
    spec = corrected(("normal", LEFT), steps=40)
    with Backend(process=True) as backend:
        job = TuneJob(spec)
        events = list(backend.work(job))
        assert all(isinstance(one, JobTold) for one in events[:-1])
        assert {one.told.stage for one in events[:-1]} == {"slides", "encode", "train"}
        last = events[-1]
        assert isinstance(last, JobFinished)
        assert last.result.model == spec.out
        assert spec.out.is_file()
        # Now it is there: the error crosses the border, and the backend goes on.
        (failed,) = list(backend.work(TuneJob(spec)))
        assert isinstance(failed, RunFailed)
        assert isinstance(failed.error, OutputConflictError)
        other = spec.model_copy(
            update={"out": spec.out.with_name("other.safetensors"), "steps": 100_000}
        )
        job = TuneJob(other)
        for event in backend.work(job):
            if isinstance(event, JobTold) and event.told.stage == "train":
                backend.cancel(job.run_id)
        assert event == JobFinished(job.run_id, None, cancelled=True)
        assert not other.out.exists()


def test_the_command(
    call: Any, corrected: Callable[..., TuneSpec], tissue_slide: Path, tiny_model: Path
) -> None:
    spec = corrected(("normal", LEFT))
    annotations = spec.corrections[0].annotations
    arguments = ("--slides", tissue_slide, "--annotations", annotations.parent, "--out", spec.out)
    done = call("tune", tiny_model, *arguments, "--device", "cpu", "--json")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["agreement_after"] >= printed["agreement_before"]
    by_command = spec.out.read_bytes()
    spec.out.unlink()
    assert tune(
        spec.model_copy(update={"corrections": corrections_in(tissue_slide, annotations.parent)})
    )
    assert spec.out.read_bytes() == by_command
    assert call("tune", tiny_model, *arguments).returncode == 2


# --- on tissue whose classes context tells apart -------------------------------------------------

SPOILT = "normal"


@pytest.fixture(scope="module")
def lobules(tmp_path_factory: pytest.TempPathFactory, checkout: Path) -> dict[str, Any]:
    """The bundled model with one class hardly ever said, and the sample slide as it sees it."""
    folder = tmp_path_factory.mktemp("lobules")
    model = load_model("context-demo")
    column = model.card.class_names.index(SPOILT)
    with torch.no_grad():
        model.region_head.out.bias[column] -= 6.0
        model.region_only_head.out.bias[column] -= 6.0
    save_model(model, folder / "spoilt.safetensors")
    slide = checkout / "sample_slides" / "sample_5_0.tiff"
    whole = json.loads(slide.with_suffix(".geojson").read_text())
    of_class = [
        one for one in whole["features"] if one["properties"]["classification"]["name"] == SPOILT
    ]
    assert len(of_class) > 1
    part = folder / "part.geojson"
    part.write_text(json.dumps({**whole, "features": of_class[:1]}))
    return {"model": folder / "spoilt.safetensors", "slide": slide, "part": part, "folder": folder}


def _truth(lobules: dict[str, Any]) -> Any:
    from xt_backend.training.tuning.fields import CorrectedField, load_corrected

    model, device = load_model(lobules["model"]), choose_device("cpu", "auto")
    encoder = BatchEncoder(model.region_encoder, device)
    slide = lobules["slide"]
    fields = []
    for drawn in (slide.with_suffix(".geojson"), lobules["part"]):
        correction = Correction(slide=slide, annotations=drawn)
        spec = TuneSpec(
            model="", corrections=(correction,), out=Path("never"), cache=lobules["folder"] / "c"
        )
        (field,) = [
            one
            for one in load_corrected(correction, model, device, spec, lambda way: encoder)
            if isinstance(one, CorrectedField)
        ]
        fields.append(field)
    return fields


def test_one_lobule_corrected_mends_the_others_and_spoils_no_class(
    lobules: dict[str, Any],
) -> None:
    whole, part = _truth(lobules)
    classes = read_card(lobules["model"]).class_names
    column = classes.index(SPOILT)
    elsewhere = whole.corrected & ~part.corrected

    def right(model: Path, label: int) -> float:
        """Recall on regions that nobody corrected."""
        found = load_model(model)
        with torch.inference_mode():
            said = found.predict_reduced(
                torch.from_numpy(whole.view.tokens), torch.from_numpy(whole.view.positions_um)
            ).logits
        of_class = elsewhere & (whole.true == label)
        return float((said.argmax(dim=1).numpy()[of_class] == label).mean())

    def tuned(keep: float) -> Path:
        out = lobules["folder"] / f"keep-{keep:g}.safetensors"
        correction = Correction(slide=lobules["slide"], annotations=lobules["part"])
        result = tune(
            TuneSpec(
                model=str(lobules["model"]),
                corrections=(correction,),
                out=out,
                keep=keep,
                device="cpu",
                cache=lobules["folder"] / "c",
            )
        )
        assert result is not None
        assert result.change.agreement[1] > 0.95
        return out

    kept, forgetful = tuned(1.0), tuned(0.0)
    # The lobules of the same kind, of which not one region was corrected.
    assert right(kept, column) > right(lobules["model"], column) + 0.15
    others = [label for label in range(len(classes)) if label != column]
    counted = [label for label in others if (elsewhere & (whole.true == label)).sum() > 30]
    assert len(counted) > 1
    for label in counted:
        assert right(kept, label) > right(lobules["model"], label) - 0.08
    # Without the model's own opinion of the rest, classes that nobody named are lost.
    lost = [right(kept, label) - right(forgetful, label) for label in counted]
    assert max(lost) > 0.15


def test_what_looks_like_a_corrected_region_is_not_held_to_its_old_class(
    lobules: dict[str, Any],
) -> None:
    whole, part = _truth(lobules)
    column = read_card(lobules["model"]).class_names.index(SPOILT)
    held, said = held_shares(part), part.logits.argmax(axis=1)
    assert (held[part.corrected] == 0).all()
    assert ((held >= 0) & (held <= 1)).all()
    wrong_before = np.unique(said[part.corrected & (said != part.true)])
    candidates = ~part.corrected & np.isin(said, wrong_before) & whole.corrected
    alike, unlike = candidates & (whole.true == column), candidates & (whole.true != column)
    assert held[alike].mean() < 0.6 < 0.8 < held[unlike].mean()
    # Where the model was right, everything is held as before.
    agreed = replace(part, true=said)
    np.testing.assert_array_equal(held_shares(agreed), np.where(part.corrected, 0.0, 1.0))


ALONE = "other"
"""The class of which some regions are painted as another one, and nothing else."""

N_PAINTED = 25


@pytest.mark.parametrize("sureness", [1.0, 0.1], ids=["sure", "undecided"])
def test_a_single_class_painted_changes_only_what_it_should(
    lobules: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sureness: float
) -> None:
    """Neighbours of a class that all looks alike are painted as a class that they are not.

    Also where the model is hardly sure of anything, as on slides of a laboratory that it does not
    know: there, a small step takes most regions to another class.
    """
    slide, folder = lobules["slide"], lobules["folder"]
    made = load_model("context-demo")
    assert isinstance(made, XT)
    assert made.region_head is not None
    with torch.no_grad():
        for head in (made.region_head, made.region_only_head):
            head.out.weight *= sureness
            head.out.bias *= sureness
    model = tmp_path / "model.safetensors"
    save_model(made, model)
    run = score([slide], str(model), tmp_path / "plain", device="cpu", cache=folder / "c")
    before = ScoreMap.load(tmp_path / "plain" / f"{run.rows[0].id}{RunFile.SCORE_MAP}")
    names = before.classes
    boxes = before.lattice.boxes(before.cells)
    of_class = np.flatnonzero(before.labels() == names.index(ALONE))
    middle = boxes[of_class[len(of_class) // 2]]
    away = np.abs(boxes[of_class] - middle).max(axis=1)
    painted = of_class[np.argsort(away, kind="stable")[:N_PAINTED]]
    drawn = write_annotations(
        tmp_path / "painted.geojson",
        [(SPOILT, tuple(boxes[row].round().astype(int).tolist())) for row in painted],
    )

    def changed(name: str) -> tuple[int, int]:
        """How many of the others changed class, and how many corrected regions are right."""
        result = tune(
            TuneSpec(
                model=str(model),
                corrections=(Correction(slide=slide, annotations=drawn),),
                out=tmp_path / f"{name}.safetensors",
                device="cpu",
                cache=folder / "c",
            )
        )
        assert result is not None
        change = result.change
        assert sum(change.right_before.values()) == 0
        assert sum(change.corrected.values()) == N_PAINTED
        assert change.others == len(before) - N_PAINTED
        return change.others_changed, sum(change.right_after.values())

    few, right = changed("few")
    assert right >= 0.8 * N_PAINTED
    assert few <= 0.03 * len(before)
    # Where all that looks like them is given up as well, a good part of the slide goes.
    monkeypatch.setattr(targets, "APART", (-2.0, -1.0))
    many, _ = changed("many")
    assert many > 2 * few
