from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from xt_backend.errors import ModelError, UsageError
from xt_backend.model import XT, ContextInfo, SlideHeadInfo, build_region_encoder

Make = Callable[..., XT]
Field = Callable[..., tuple[Tensor, Tensor]]
KINDS = ["none", "attention", "mamba2", "transformer-xl"]
MIL = SlideHeadInfo(kind="attention-mil")


def same(found: Tensor | None, wanted: Tensor | None) -> bool:
    """But for the last bits: on some processors they depend on how many rows a product has."""
    assert found is not None
    assert wanted is not None
    return torch.allclose(found, wanted, rtol=0, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 2])
def test_prediction_does_not_depend_on_the_order_of_rows(
    make_xt: Make, field: Field, kind: str, k: int
) -> None:
    model = make_xt(k=k, kind=kind)
    features, places = field(k=k)
    expected = model.predict(features, places)
    assert expected.logits.shape == expected.region_only_logits.shape == (20, 3)
    assert expected.slide_logits is None
    for seed in range(3):
        shuffle = torch.randperm(20, generator=torch.Generator().manual_seed(seed))
        found = model.predict(features[shuffle], places[shuffle])
        assert same(found.logits, expected.logits[shuffle])
        assert same(found.region_only_logits, expected.region_only_logits[shuffle])


@pytest.mark.parametrize("kind", KINDS)
def test_prediction_from_reduced_tokens_is_the_same(make_xt: Make, field: Field, kind: str) -> None:
    model = make_xt(k=2, kind=kind)
    features, places = field(k=2)
    whole = model.predict(features, places)
    tokens = torch.cat([model.reduce(part) for part in torch.split(features, 3)])
    reduced = model.predict_reduced(tokens, places)
    assert same(reduced.logits, whole.logits)
    assert same(model.region_only(tokens[4:9]), whole.region_only_logits[4:9])


@pytest.mark.parametrize("kind", KINDS)
def test_padded_batch_equals_each_field_alone(make_xt: Make, field: Field, kind: str) -> None:
    model = make_xt(k=2, kind=kind)
    big, small = field(k=2), field(2, 3, k=2, seed=1)
    features = torch.zeros(2, 20, 4, 12)
    places = torch.zeros(2, 20, 2, dtype=torch.float64)
    mask = torch.ones(2, 20, dtype=torch.bool)
    for row, (one, where) in enumerate((big, small)):
        features[row, : len(one)], places[row, : len(one)] = one, where
        mask[row, : len(one)] = False
    found = model.decode(features, places, mask)
    for row, (one, where) in enumerate((big, small)):
        alone = model.predict(one, where)
        assert (found.logits[row, : len(one)] - alone.logits).abs().max() < 1e-5
        gap = found.region_only_logits[row, : len(one)] - alone.region_only_logits
        assert gap.abs().max() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_only_context_changes_when_a_neighbour_does(make_xt: Make, field: Field, kind: str) -> None:
    model = make_xt(kind=kind)
    features, places = field()
    before = model.predict(features, places)
    features[7] += 2.0
    after = model.predict(features, places)
    others = torch.arange(20) != 7
    changed = (after.logits - before.logits)[others].abs().amax(1) > 0
    assert changed.all() if kind in ("attention",) else changed.any() == (kind != "none")
    assert same(after.region_only_logits[others], before.region_only_logits[others])
    assert not torch.equal(after.region_only_logits[7], before.region_only_logits[7])


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_tiny_fields(make_xt: Make, field: Field, kind: str, n: int) -> None:
    features, places = field()
    for fields in ({}, {"task": "slide", "slide_head": MIL}):
        model = make_xt(kind=kind, **fields)
        found = model.predict(features[:n], places[:n])
        assert found.logits.shape == found.region_only_logits.shape == (n, 3)
        assert found.logits.isfinite().all()
        if fields:
            assert found.slide_logits is not None
            assert found.slide_logits.isfinite().all() == (n > 0)


def test_broken_features_stay_alone(make_xt: Make, field: Field) -> None:
    model = make_xt()
    features, places = field()
    kept = torch.tensor([i for i in range(20) if i not in (3, 11)])
    expected = model.predict(features[kept], places[kept])
    features[3, 0, 2] = torch.inf
    features[11] = torch.nan
    found = model.predict(features, places)
    assert same(found.logits[kept], expected.logits)
    assert found.logits[[3, 11]].isnan().all()
    assert found.region_only_logits[[3, 11]].isnan().all()
    assert found.region_only_logits[kept].isfinite().all()


def test_half_precision_features_are_taken(make_xt: Make, field: Field) -> None:
    model = make_xt()
    features, places = field()
    half = features.half()
    assert same(model.predict(half, places).logits, model.predict(half.float(), places).logits)


@pytest.mark.parametrize("k", [1, 2])
def test_forward_is_encode_then_predict_in_raster_order(make_xt: Make, k: int) -> None:
    model = make_xt(k=k)
    image = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        out = model(image)
    assert out.shape == (2, 3, 2, 3)
    for b in range(2):
        regions, places = [], []
        for row in range(2):
            for col in range(3):
                regions.append(image[b, :, row * 32 : row * 32 + 32, col * 32 : col * 32 + 32])
                places.append([(col + 0.5) * 16.0, (row + 0.5) * 16.0])
        with torch.no_grad():
            features = model.region_encoder(torch.stack(regions))
        found = model.predict(features, torch.tensor(places))
        assert torch.allclose(out[b].flatten(1).T, found.logits, atol=1e-5)


def test_forward_trains_the_region_encoder_too(make_xt: Make) -> None:
    model = make_xt().train()
    model(torch.randn(1, 3, 64, 64)).square().sum().backward()
    for name, parameter in model.named_parameters():
        wanted = not name.startswith("region_only_head")
        assert (parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)) == wanted, name


@pytest.mark.parametrize("shape", [(1, 3, 64, 40), (1, 1, 32, 32), (3, 32, 32), (1, 3, 0, 32)])
def test_images_of_other_shapes_are_refused(make_xt: Make, shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="multiples of 32"):
        make_xt()(torch.zeros(shape))


def test_bad_arguments_of_predict_are_refused(make_xt: Make, field: Field) -> None:
    model = make_xt()
    features, places = field()
    with pytest.raises(UsageError, match=r"features must be \(\.\., 1, 12\)"):
        model.predict(features[:, 0], places)
    with pytest.raises(UsageError, match=r"positions_um must be \(20, 2\)"):
        model.predict(features, places[:5])
    places[2, 0] = torch.nan
    with pytest.raises(UsageError, match="finite"):
        model.predict(features, places)
    with pytest.raises(UsageError, match=r"tokens must be \(\.\., 1, 6\)"):
        model.predict_reduced(features, places)
    with pytest.raises(UsageError, match=r"features must be \(\.\., N, 1, 12\)"):
        model.decode(features, places)


def test_gradients_are_kept_only_where_asked_for(make_xt: Make, field: Field) -> None:
    model = make_xt(kind="transformer-xl", options={"segment": 4, "memory": 4})
    features, places = field()
    assert not model.predict(features, places).logits.requires_grad
    features.requires_grad_()
    found = model.predict(features, places).logits
    (influence,) = torch.autograd.grad(found[19].sum(), features)
    # The last region lies in the fifth segment; its memory is the fourth.
    assert influence[12].abs().sum() > 0
    assert influence[0].abs().sum() == 0


@pytest.mark.parametrize("kind", ["attention", "mamba2", "transformer-xl"])
@pytest.mark.parametrize("head", ["class-token", "attention-mil"])
def test_slide_task(make_xt: Make, field: Field, kind: str, head: str) -> None:
    model = make_xt(kind=kind, task="slide", slide_head=SlideHeadInfo(kind=head))
    features, places = field()
    expected = model.predict(features, places)
    assert expected.slide_logits is not None
    assert expected.slide_logits.shape == (3,)
    assert expected.slide_token is not None
    assert model.slide_head is not None
    seen = model.slide_head.classify(expected.slide_token)
    assert torch.allclose(seen, expected.slide_logits, atol=1e-6)
    shuffle = torch.randperm(20, generator=torch.Generator().manual_seed(4))
    shuffled = model.predict(features[shuffle], places[shuffle])
    assert same(shuffled.slide_logits, expected.slide_logits)
    # Every region has a say.
    for row in (0, 9, 19):
        changed = features.clone()
        changed[row] += 3.0
        other = model.predict(changed, places).slide_logits
        assert not torch.equal(other, expected.slide_logits)
    alone = expected.region_only_logits.mean(0)
    assert expected.region_only_slide_logits is not None
    assert torch.allclose(expected.region_only_slide_logits, alone, atol=1e-6)
    padded = torch.cat([features, torch.full((5, 1, 12), 7.0)])[None]
    where = torch.cat([places, torch.full((5, 2), 9e4)])[None]
    mask = torch.arange(25)[None] >= 20
    batched = model.decode(padded, where, mask)
    assert batched.slide_logits is not None
    assert (batched.slide_logits[0] - expected.slide_logits).abs().max() < 1e-5
    assert batched.region_only_slide_logits is not None
    assert torch.allclose(batched.region_only_slide_logits[0], alone, atol=1e-5)
    assert model(torch.zeros(2, 3, 64, 32)).shape == (2, 3)


def test_attention_mil_logits_of_a_region_are_those_of_a_slide_of_its_own(
    make_xt: Make, field: Field
) -> None:
    model = make_xt(kind="none", task="slide", slide_head=MIL)
    features, places = field()
    found = model.predict(features, places)
    for row in (0, 8):
        single = model.predict(features[row : row + 1], places[row : row + 1])
        assert torch.allclose(single.slide_logits, found.logits[row], atol=1e-6)


def test_initial_weights_come_from_the_generator(make_xt: Make) -> None:
    first, same, other = make_xt(seed=1), make_xt(seed=1), make_xt(seed=2)
    for name, value in first.state_dict().items():
        assert torch.equal(value, same.state_dict()[name])
    assert not torch.equal(first.reduce.project.weight, other.reduce.project.weight)
    assert torch.equal(
        first.region_encoder.backbone.patch.weight, other.region_encoder.backbone.patch.weight
    )


def test_card_and_encoder_must_agree(make_xt: Make, toy: str) -> None:
    card = make_xt().card
    larger = build_region_encoder(toy, region_px=64, input_px=16, weights="random")
    with pytest.raises(ModelError, match="region_px 32, its encoder 64"):
        XT(card, larger)
    other = build_region_encoder(
        "convnext_atto",
        region_px=32,
        input_px=32,
        weights="random",
        backbone_args={"depths": [1, 1, 1, 1], "dims": [4, 4, 4, 4]},
    )
    with pytest.raises(ModelError, match="names the encoder toy_patches, given was convnext_atto"):
        XT(card.model_copy(update={"input_px": 32}), other)
    bad = card.model_copy(update={"context": ContextInfo(kind="lstm", dim=8, layers=1)})
    with pytest.raises(ModelError, match="no context encoder 'lstm'"):
        XT(bad, make_xt().region_encoder)
    bad = card.model_copy(
        update={"context": ContextInfo(kind="none", dim=8, layers=1, options={"generator": 1})}
    )
    with pytest.raises(ModelError, match="must not hold generator"):
        XT(bad, make_xt().region_encoder)
