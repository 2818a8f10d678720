"""Training the region encoder too: exact gradients, places, and a model that others can score."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from support.training import begin_on_pixels, tiny_training

from xt_backend.engine import Device
from xt_backend.errors import AnnotationError, LossNotFiniteError, UsageError
from xt_backend.model import XT, build_region_encoder, load_model
from xt_backend.training import EvaluateSpec, TrainSpec, evaluate, train
from xt_backend.training.annotations import pair_slides
from xt_backend.training.augment import View, shift
from xt_backend.training.batch import Batch, decode
from xt_backend.training.draw import Draw
from xt_backend.training.events import Warnings, ignore
from xt_backend.training.examples import read_examples
from xt_backend.training.losses import heads_loss
from xt_backend.training.pixel_loader import PixelLoader
from xt_backend.training.streamed import StreamedLearner
from xt_backend.training.streams import TwoStreams

CPU = Device("cpu", "fp32", "test")


@pytest.fixture
def spec(slides_folder: Path, tmp_path: Path) -> TrainSpec:
    return tiny_training(
        slides_folder,
        tmp_path / "e2e.safetensors",
        use_cache=False,
        context_options={"dropout": 0.0},
        epochs=2,
        slides_per_step=2,
        end_to_end=True,
        workers=0,
    )


def make_learner(spec: TrainSpec, **changes: Any) -> StreamedLearner:
    spec = spec.model_copy(update=changes)
    examples, loader = begin_on_pixels(spec, CPU)
    train_fields = loader.load(examples.slides[:3], "training")
    val = loader.load(examples.slides[3:], "validation")
    loader.fit_whitening(train_fields)
    return StreamedLearner(loader.model, train_fields, val, spec, CPU)


def gradients(model: XT) -> dict[str, torch.Tensor]:
    return {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def keys(n_slides: int) -> list[int]:
    """What a step of n slides draws first from a generator of seed 0."""
    drawn: list[int] = np.random.default_rng(0).integers(2**32, size=n_slides).tolist()
    return drawn


def backward(loss: torch.Tensor) -> None:
    loss.backward()


PLAIN = {
    "turns": False,
    "colour_jitter": 0.0,
    "stain_jitter": 0.0,
    "token_noise": 0.0,
    "token_dropout": 0.0,
}


def plain_backward(learner: StreamedLearner, index: int, epoch: int, key: int) -> torch.Tensor:
    """The same loss in one graph, all regions at once; `key` is what the step drew."""
    spec, model, one = learner.spec, learner.model, learner.train[index]
    with one.open(spec) as slide:
        boxes = one.lattice.boxes(one.cells)
        pixels = np.stack([slide.read(x, y, 64, 64, 1.0) for x, y, *_ in boxes])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    white = model.reduce.whiten(model.region_encoder(images))
    rng = np.random.default_rng([spec.seed, epoch, index, key])
    rng.integers(8), rng.uniform(-1.0, 1.0, 7)  # what the looks draw
    places_um = one.lattice.centres_um(one.cells)
    empty = np.zeros((len(places_um), 1, 0), np.float32)
    view = shift(View(empty, places_um, one.truth.soft, one.truth.weights), rng)
    batch = Batch.of([view], white.device)
    batch = Batch(white[None], batch.positions_um, batch.padding, batch.soft, batch.weights)
    loss = heads_loss(decode(model, batch), batch.soft, batch.weights, learner._by_class, spec)
    loss.backward()
    return loss


@pytest.mark.parametrize(
    ("encoder", "checkpoints", "at_once", "kept_bytes"),
    [
        ("test_resnet", True, 7, 2**28),
        ("test_resnet", False, 64, 0),
        ("test_vit", True, 5, 0),
        ("test_convnext", True, 16, 2**28),
    ],
)
def test_gradients_at_grad_ratio_1_are_those_of_plain_backpropagation(
    spec: TrainSpec,
    monkeypatch: pytest.MonkeyPatch,
    encoder: str,
    checkpoints: bool,
    at_once: int,
    kept_bytes: int,
) -> None:
    monkeypatch.setattr("xt_backend.training.pixels.KEPT_BYTES", kept_bytes)
    learner = make_learner(
        spec,
        region_encoder=encoder,
        input_px=64,
        grad_ratio=1.0,
        regions_at_once=at_once,
        activation_checkpoints=checkpoints,
        **PLAIN,
    )
    model = learner.model
    model.train()
    model.region_encoder.eval()
    outcome = learner.step([1], 1, np.random.default_rng(0), backward)
    streamed = gradients(model)
    model.zero_grad()
    loss = plain_backward(learner, 1, 1, keys(1)[0])
    expected = gradients(model)
    assert outcome is not None
    assert outcome.loss == pytest.approx(loss.item(), abs=1e-5)
    assert streamed.keys() == expected.keys()
    assert sum(name.startswith("region_encoder.") for name in expected) > 5
    for name, gradient in expected.items():
        scale = gradient.abs().max().clamp_min(1.0)
        assert ((streamed[name] - gradient).abs().max() / scale).item() < 1e-5, name


def test_two_slides_of_a_step_add_up(spec: TrainSpec) -> None:
    learner = make_learner(spec, grad_ratio=1.0, **PLAIN)
    model = learner.model
    model.train()
    model.region_encoder.eval()
    learner.step([0, 2], 1, np.random.default_rng(0), backward)
    together = gradients(model)
    model.zero_grad()
    shares = [float(learner.train[index].truth.weights.sum()) for index in (0, 2)]
    alone = []
    for index, key in zip((0, 2), keys(2), strict=True):
        model.zero_grad()
        plain_backward(learner, index, 1, key)
        alone.append(gradients(model))
    for name, gradient in together.items():
        parts = [share / sum(shares) * one[name] for share, one in zip(shares, alone, strict=True)]
        assert torch.allclose(gradient, parts[0] + parts[1], atol=1e-5), name


@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.0])
def test_regions_keep_their_places_at_any_grad_ratio(
    spec: TrainSpec, monkeypatch: pytest.MonkeyPatch, ratio: float
) -> None:
    """The context and its loss see all regions in order; only the encoder's gradients thin out."""
    learner = make_learner(spec, grad_ratio=ratio, regions_at_once=5, **PLAIN)
    taught: list[np.ndarray] = []
    back = TwoStreams.back

    def spy(self: TwoStreams, regions: Any, places: np.ndarray, wanted: torch.Tensor) -> None:
        """Each region that is taught gets the gradient of its own token."""
        pixels = {int(row): picture for rows, many in regions.read(places)
                  for row, picture in zip(rows, many, strict=True)}  # fmt: skip
        assert sorted(pixels) == places.tolist()
        taught.append(places)
        back(self, regions, places, wanted)

    monkeypatch.setattr(TwoStreams, "back", spy)
    model = learner.model
    model.train()
    model.region_encoder.eval()
    outcome = learner.step([1], 1, np.random.default_rng(0), backward)
    found = gradients(model)
    model.zero_grad()
    loss = plain_backward(learner, 1, 1, keys(1)[0])
    assert outcome is not None
    assert outcome.loss == pytest.approx(loss.item(), abs=1e-5)
    for name, gradient in gradients(model).items():
        if not name.startswith("region_encoder."):
            assert torch.allclose(found[name], gradient, atol=1e-5), name
    n = len(learner.train[1].cells)
    assert len(taught[0]) == int(np.ceil(ratio * n))
    assert len(set(taught[0].tolist())) == len(taught[0])


def test_encoder_is_trained_embedded_and_scored(spec: TrainSpec, slides_folder: Path) -> None:
    before = build_region_encoder("test_resnet", region_px=64, weights="random").state_dict()
    spec = spec.model_copy(update={"encoder_lr": 1e-3, "epochs": 4})
    result = train(spec)
    model = load_model(spec.out)
    info = model.card.region_encoder
    assert (info.source, info.embedded) == ("trained", True)
    after = model.region_encoder.state_dict()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert any(name.endswith("conv1.weight") for name in changed)
    # Batch norms keep the statistics that they came with.
    assert not any("running" in name for name in changed)
    report = evaluate(
        EvaluateSpec(
            model=str(spec.out),
            slides=slides_folder,
            slide_mpp=1.0,
            tissue="all",
            use_cache=False,
            bootstrap=0,
        )
    )
    assert report.context.n_regions == 5 * 64
    measured = result.context.to_dict()
    val = {"slides": slides_folder / result.val_slides[0]}
    again = evaluate(
        EvaluateSpec(
            model=str(spec.out), annotations=slides_folder, slide_mpp=1.0, tissue="all",
            use_cache=False, **val,
        )
    )  # fmt: skip
    assert again.context.to_dict() == measured


def test_validation_slides_of_one_name_are_told_apart(
    spec: TrainSpec, slides_folder: Path, tmp_path: Path
) -> None:
    """Two dense slides, ``same.tif`` in two folders: each is judged by its own regions."""
    learner = make_learner(spec, task="dense", end_to_end=False)
    loader = PixelLoader(
        learner.model, learner._encoder, learner.spec, ignore, 2, [], Warnings(ignore)
    )
    sources = []
    for name in ("s3", "s4"):
        for suffix in ("tif", "geojson"):
            (tmp_path / name).mkdir(exist_ok=True)
            copy = tmp_path / name / f"same.{suffix}"
            shutil.copyfile(slides_folder / f"{name}.{suffix}", copy)
        sources += pair_slides(tmp_path / name, [tmp_path / name])
    val = loader.load(sources, "validation")
    assert [one.name for one in val] == ["same.tif"] * 2
    both = StreamedLearner(learner.model, learner.train, val, learner.spec, CPU)
    views = [both._seen(one)[1] for one in val]
    for view, plain in zip(views, learner.val, strict=True):
        assert np.array_equal(view.tokens, learner._seen(plain)[1].tokens)
    assert not np.array_equal(views[0].tokens, views[1].tokens)


def test_same_seed_same_bytes(spec: TrainSpec, tmp_path: Path) -> None:
    spec = spec.model_copy(update={"name": "same", "epochs": 1})
    outs = [tmp_path / f"{n}.safetensors" for n in range(3)]
    for out, seed in zip(outs, (0, 0, 1), strict=True):
        train(spec.model_copy(update={"out": out, "seed": seed}))
    assert outs[0].read_bytes() == outs[1].read_bytes()
    assert outs[0].read_bytes() != outs[2].read_bytes()


def test_crops_of_a_field(spec: TrainSpec) -> None:
    learner = make_learner(spec, field_regions=3)
    one = learner.train[0]
    seen: set[int] = set()
    for seed in range(100):
        rows = one.crop(3, np.random.default_rng(seed))
        assert (np.diff(rows) > 0).all()
        extent = np.ptp(one.cells[rows], axis=0)
        assert (extent < 3).all()
        assert one.truth.known[rows].any()
        seen |= set(rows.tolist())
    assert len(seen) == len(one.cells)
    train(spec.model_copy(update={"field_regions": 3, "epochs": 1}))
    assert spec.out.exists()


def test_moved_regions_have_the_labels_of_where_they_lie(spec: TrainSpec) -> None:
    """The border between the two classes is at x = 192 px; pixels are 1 um."""
    one = make_learner(spec, zoom=1.5, shift=1.0).train[1]
    everything = np.arange(len(one.cells))
    moved = one.moved(everything, (0.5, 0.25), 1.5)
    boxes = moved.lattice.boxes(moved.cells)
    assert boxes[0].tolist() == [48, 24, 144, 120]
    covered = np.clip(192 - boxes[:, 0], 0, boxes[:, 2] - boxes[:, 0])
    inside = np.minimum(boxes[:, 2], 512) - boxes[:, 0]
    assert moved.truth.soft[:, 0] == pytest.approx(covered / inside, abs=1e-6)
    assert 0.1 < moved.truth.soft[:, 0].mean() < 0.9
    corner = np.flatnonzero((one.cells < 2).all(axis=1))
    part = one.moved(corner, (0.0, 0.0), 0.5)
    assert len(part.cells) == 16
    assert part.lattice.boxes(part.cells)[:, 2:].max() == 128
    assert not len(one.moved(corner[:1], (0.9, 0.9), 4.0).cells)


def test_views_at_other_places_and_sizes(spec: TrainSpec) -> None:
    learner = make_learner(spec, zoom=1.5, shift=1.0, field_regions=3)
    drawn = [Draw.of(learner.train[0], learner.spec, (1, 0, key)) for key in range(20)]
    mpps = [one.field.lattice.model_mpp for one in drawn]
    assert 1 / 1.5 <= min(mpps) < 0.9
    assert 1.1 < max(mpps) <= 1.5
    assert len({one.field.lattice.origin_px for one in drawn}) > 15
    assert min(one.weight for one in drawn) > 0
    train(spec.model_copy(update={"zoom": 1.5, "shift": 1.0, "field_regions": 3, "epochs": 1}))
    # The model itself is one of the pixel size asked for.
    assert load_model(spec.out).card.model_mpp == 1.0


@pytest.mark.parametrize("changes", [{"end_to_end": False}, {"task": "dense"}])
def test_views_elsewhere_need_pixels_and_labels_there(
    slides_folder: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    options = {"end_to_end": True, "shift": 0.5, **changes}
    with pytest.raises(ValidationError, match="zoom and shift"):
        tiny_training(slides_folder, tmp_path / "m.safetensors", **options)


def test_folds_without_validation_take_the_last_epoch(
    spec: TrainSpec, slides_folder: Path, tmp_path: Path
) -> None:
    """Two patients suffice then: each fold learns from one and is judged on the other."""
    patients = tmp_path / "patients.csv"
    rows = [f"s{index},{'ab'[index > 0]}" for index in range(5)]
    patients.write_text("\n".join(["slide,patient", *rows]), encoding="utf-8")
    changes = {"patients": patients, "folds": 2, "val_fraction": 0.0, "even_patients": True}
    result = train(spec.model_copy(update=changes))
    assert result.best_epoch == 2
    assert (len(result.train_slides), len(result.val_slides)) == (5, 0)
    assert "cross_validation" in result.card.metrics
    with pytest.raises(ValidationError, match="needs folds"):
        tiny_training(slides_folder, spec.out, val_fraction=0.0)


@pytest.mark.parametrize("val_fraction", [0.0, 0.3])
def test_some_patients_are_only_learnt_from(
    spec: TrainSpec, tmp_path: Path, val_fraction: float
) -> None:
    patients = tmp_path / "patients.csv"
    rows = [f"s{index},p{index // 2},{'yes' if index > 3 else ''}" for index in range(5)]
    patients.write_text("\n".join(["slide,patient,learn_only", *rows]), encoding="utf-8")
    spec = spec.model_copy(update={"patients": patients, "folds": 2, "val_fraction": val_fraction})
    examples = read_examples(spec, list[str]().append)
    if val_fraction:  # three patients are needed, of which two are there
        with pytest.raises(AnnotationError, match="two patients outside"):
            examples.folds(spec, 2)
        parts = [examples.split(spec)]
    else:
        parts = examples.folds(spec, 2)
        held_out = [slide.name for part in parts for slide in part.held_out]
        assert sorted(held_out) == ["s0.tif", "s1.tif", "s2.tif", "s3.tif"]
    for part in parts:
        assert "s4.tif" in [slide.name for slide in part.train]
        assert not any(slide.name == "s4.tif" for slide in part.val)
    assert any("1 slide of 1 patient" in note for note in examples.notes)
    val = tmp_path / "val"
    val.mkdir()
    for kept in spec.slides.glob("s4.*"):
        shutil.copy(kept, val)
    others = tmp_path / "others"
    others.mkdir()
    for kept in spec.slides.glob("s[01].*"):
        shutil.copy(kept, others)
    with pytest.raises(UsageError, match=r"s4\.tif as learn_only, and --val holds it"):
        read_examples(
            spec.model_copy(update={"slides": others, "val": val, "folds": None}),
            list[str]().append,
        )


def test_slide_labels_end_to_end(spec: TrainSpec, slides_folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    rows = [f"s{index},{'few' if index < 3 else 'many'}" for index in range(5)]
    table.write_text("\n".join(["slide,label", *rows]), encoding="utf-8")
    changes = {"labels": table, "task": "slide", "slide_head": "attention-mil", "epochs": 1}
    train(spec.model_copy(update={**changes, "val_fraction": 0.4, "seed": 3}))
    assert load_model(spec.out).card.region_encoder.source == "trained"


def test_nan_in_the_encoder_stops_training(
    spec: TrainSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    back = TwoStreams.back

    def explode(self: TwoStreams, regions: Any, places: Any, wanted: torch.Tensor) -> None:
        back(self, regions, places, wanted * float("nan"))

    monkeypatch.setattr(TwoStreams, "back", explode)
    with pytest.raises(LossNotFiniteError, match="gradient became nan in epoch 1, step 1"):
        train(spec)
    assert not spec.out.exists()


def test_bf16_on_the_cpu(spec: TrainSpec) -> None:
    train(spec.model_copy(update={"precision": "bf16", "epochs": 1}))
    assert load_model(spec.out).card.region_encoder.source == "trained"


def test_processes_are_only_for_pixels(spec: TrainSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    class Two:
        count, is_main, device = 2, True, None

    monkeypatch.setattr(
        "xt_backend.training.loop.Processes.launched", classmethod(lambda cls: Two())
    )
    with pytest.raises(UsageError, match="single process"):
        train(spec.model_copy(update={"end_to_end": False}))
