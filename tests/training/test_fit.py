from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from xt_backend.errors import LossNotFiniteError
from xt_backend.model import XT, ClassInfo, ContextInfo, ModelCard, ReduceInfo, build_region_encoder
from xt_backend.training import TrainSpec
from xt_backend.training.augment import View
from xt_backend.training.batch import Batch, decode, packed
from xt_backend.training.cached import CachedLearner, judge_fields
from xt_backend.training.fields import LabelledField
from xt_backend.training.fit import Fitter
from xt_backend.training.labels import LabelledSlide
from xt_backend.training.metrics import confusion_matrix, f1_scores

from .lobules import CLASSES, REGION_UM, Simulated, simulate

COMPONENTS = 8


@pytest.fixture(scope="module")
def slides() -> list[Simulated]:
    return [simulate(seed, side=12) for seed in range(14)]


def recipe(**changes: object) -> TrainSpec:
    """Small and quick."""
    settings: dict[str, object] = {
        "slides": Path("slides"),
        "out": Path("m.safetensors"),
        "components": COMPONENTS,
        "dim": 32,
        "lr": 5e-3,
        "epochs": 20,
    }
    return TrainSpec.model_validate({**settings, **changes})


def make(slides: list[Simulated], spec: TrainSpec) -> tuple[XT, list[LabelledField]]:
    """A model whose whitening fits the slides, and the slides as it sees them."""
    encoder = build_region_encoder("test_resnet", region_px=32, weights="random")
    card = ModelCard(
        name="test",
        classes=tuple(ClassInfo(name=name, color="#000000") for name in CLASSES),
        model_mpp=4.0,
        region_px=32,
        input_px=32,
        region_encoder=encoder.info,
        reduce=ReduceInfo(components=spec.components),
        context=ContextInfo(
            kind=spec.context, dim=spec.dim, layers=spec.layers, options=spec.context_arguments
        ),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )
    model = XT(card, encoder, generator=torch.Generator().manual_seed(spec.seed))
    wide = np.random.default_rng(9).normal(size=(slides[0].features.shape[2], encoder.dim))
    features = [torch.from_numpy((slide.features @ wide).astype(np.float32)) for slide in slides]
    model.reduce.fit_whitening(torch.cat(features))
    fields = []
    for index, (slide, rows) in enumerate(zip(slides, features, strict=True)):
        view = View(
            model.reduce.whiten(rows).numpy(),
            slide.positions_um,
            slide.shares,
            np.ones(len(rows), np.float32),
        )
        fields.append(LabelledField(source(index), view, slide.shares.argmax(axis=1)))
    return model, fields


def source(number: int) -> LabelledSlide:
    return LabelledSlide(Path(f"{number}.tiff"), "")


def fitted(slides: list[Simulated], spec: TrainSpec) -> Fitter:
    model, fields = make(slides, spec)
    with torch.random.fork_rng():
        torch.manual_seed(spec.seed)
        fitter = Fitter(CachedLearner(model, fields[:10], fields[10:], spec, REGION_UM), spec)
        fitter.run(lambda row: None)
    return fitter


def stroma_f1(fitter: Fitter) -> tuple[float, float]:
    """Mean F1 of normal and reactive on the validation fields, with context and region only."""
    confusion = np.zeros((2, 4, 5))
    for one in fitter.learner.judge():
        for head, logits in enumerate((one.logits, one.region_only_logits)):
            confusion[head] += confusion_matrix(one.true, logits.argmax(axis=1), 4)
    stroma = [CLASSES.index("normal"), CLASSES.index("reactive")]
    return f1_scores(confusion[0])[stroma].mean(), f1_scores(confusion[1])[stroma].mean()


def test_context_learns_what_a_region_alone_cannot_show(slides: list[Simulated]) -> None:
    spec = recipe(slides_per_step=1)
    context, region_only = stroma_f1(fitted(slides, spec))
    assert context > 0.72
    assert region_only < context - 0.15
    without, _ = stroma_f1(fitted(slides, recipe(context="none", context_options={})))
    assert without < context - 0.15


def test_same_seed_same_weights(slides: list[Simulated]) -> None:
    spec = recipe(epochs=2, context_options={"order": "alternate", "dropout": 0.2})
    first, second = (fitted(slides, spec) for _ in range(2))
    other = fitted(slides, recipe(**{**spec.model_dump(), "seed": 1}))
    assert first.history == second.history
    assert other.history != first.history
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name


def test_best_epoch_is_put_back_and_patience_ends(slides: list[Simulated]) -> None:
    fitter = fitted(slides, recipe(epochs=12, patience=2, lr=0.1))
    losses = [row["val_loss"] for row in fitter.history]
    assert fitter.best_epoch == int(np.argmin(losses)) + 1
    assert len(losses) <= fitter.best_epoch + 2
    assert fitter.learner.validate()["val_loss"] == pytest.approx(min(losses))


def test_region_encoder_is_frozen(slides: list[Simulated]) -> None:
    spec = recipe(epochs=1)
    model, fields = make(slides, spec)
    before = {name: value.clone() for name, value in model.region_encoder.state_dict().items()}
    Fitter(CachedLearner(model, fields[:4], fields[4:6], spec, REGION_UM), spec).run(
        lambda row: None
    )
    for name, value in model.region_encoder.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_nan_loss_stops_and_keeps_the_best(slides: list[Simulated]) -> None:
    spec = recipe(epochs=5, token_noise=0.0, token_dropout=0.0)
    model, fields = make(slides, spec)
    fitter = Fitter(CachedLearner(model, fields[:10], fields[10:], spec, REGION_UM), spec)

    def spoil(row: dict[str, float]) -> None:
        if row["epoch"] == 2:
            fields[3].view.tokens[0] = np.nan

    with pytest.raises(LossNotFiniteError, match=r"nan in epoch 3, step \d+\..*learning rate"):
        fitter.run(spoil)
    assert fitter.best_epoch in (1, 2)
    fitter.restore_best()
    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_weights_that_the_last_step_spoiled_are_no_model(slides: list[Simulated]) -> None:
    """No other step comes to tell of them."""
    spec = recipe(epochs=1, lr=1e30, slides_per_step=10)
    model, fields = make(slides, spec)
    fitter = Fitter(CachedLearner(model, fields[:10], fields[10:], spec, REGION_UM), spec)
    with pytest.raises(LossNotFiniteError, match="validation loss became nan in epoch 1"):
        fitter.run(lambda row: None)
    assert fitter.best_epoch == 0


def test_regions_without_weight_teach_nothing(slides: list[Simulated]) -> None:
    """What is annotated too little may be labelled anyhow."""
    spec = recipe(epochs=1)
    outcomes = []
    for label in (0, 2):
        model, fields = make(slides, spec)
        for one in fields:
            one.view.weights[::3] = 0.0
            one.view.soft[::3] = np.eye(4, dtype=np.float32)[label]
        fitter = Fitter(CachedLearner(model, fields[:6], fields[6:8], spec, REGION_UM), spec)
        torch.manual_seed(0)  # dropout draws from torch's own generator
        fitter.run(lambda row: None)
        outcomes.append(fitter.history)
    assert outcomes[0] == outcomes[1]


def test_decode_is_the_models_own(slides: list[Simulated]) -> None:
    """The same logits as `XT.predict` from features, padded or not."""
    spec = recipe()
    model, fields = make(slides, spec)
    model.eval()
    features = torch.randn(30, 1, model.region_encoder.dim)
    places = torch.from_numpy(fields[0].view.positions_um[:30])
    expected = model.predict(features, places)
    tokens = model.reduce.whiten(features).numpy()
    some = View(tokens, places.numpy(), np.ones((30, 4), np.float32), np.ones(30, np.float32))
    one = LabelledField(source(0), some, np.zeros(30, np.int64))
    judged = judge_fields(model, [one])[0]
    logits, alone = judged.logits, judged.region_only_logits
    assert logits == pytest.approx(expected.logits.numpy(), abs=1e-4)
    assert alone == pytest.approx(expected.region_only_logits.numpy(), abs=1e-4)
    with torch.inference_mode():
        padded, _ = decode(model, Batch.of([some, fields[1].view], torch.device("cpu")))
    assert padded[:30].numpy() == pytest.approx(logits, abs=1e-4)


def test_packing_keeps_order_and_bounds_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xt_backend.training.batch.TOKENS_AT_ONCE", 100)
    sizes = [10, 40, 30, 90, 250, 20, 5]
    views = [
        View(np.zeros((n, 1, 2)), np.zeros((n, 2)), np.zeros((n, 2)), np.zeros(n)) for n in sizes
    ]
    parts = [[len(view) for view in part] for part in packed(views)]
    assert parts == [[10, 40], [30], [90], [250], [20, 5]]
