from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from xt_backend.errors import ModelError
from xt_backend.model.heads import RegionHead, RegionOnlyHead, SlideHead
from xt_backend.model.reduce import Reduce
from xt_backend.model.seeding import seeded


def make_reduce(features: int, components: int, dim: int = 8) -> Reduce:
    with seeded(None):
        return Reduce(features, components, dim)


@pytest.fixture
def features() -> torch.Tensor:
    """(300, 4, 20) with a few strong directions and an offset."""
    g = torch.Generator().manual_seed(0)
    mixing = torch.randn(20, 20, generator=g) * torch.logspace(1, -2, 20)[:, None]
    return torch.randn(300, 4, 20, generator=g) @ mixing + 5.0


def test_whitened_training_features_are_white(features: torch.Tensor) -> None:
    reduce = make_reduce(20, 6)
    reduce.fit_whitening(features)
    white = reduce.whiten(features).reshape(-1, 6).double()
    assert white.mean(0).abs().max() < 1e-4
    assert (torch.cov(white.T) - torch.eye(6)).abs().max() < 1e-4


def test_components_are_the_leading_eigenvectors(features: torch.Tensor) -> None:
    reduce = make_reduce(20, 3)
    reduce.fit_whitening(features)
    rows = features.reshape(-1, 20).double().numpy()
    _, singular, directions = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    for n in range(3):
        expected = directions[n] / (singular[n] / math.sqrt(len(rows) - 1))
        expected *= np.sign(expected[np.abs(expected).argmax()])
        assert np.allclose(reduce.components[:, n].numpy(), expected, rtol=1e-3, atol=1e-5)


def test_fit_is_repeatable_and_takes_half_precision(features: torch.Tensor) -> None:
    first, second, half = (make_reduce(20, 6) for _ in range(3))
    first.fit_whitening(features)
    second.fit_whitening(features.clone())
    half.fit_whitening(features.half())
    assert torch.equal(first.components, second.components)
    assert (first.whiten(features) - half.whiten(features)).abs().max() < 0.05


def test_features_that_never_vary_do_not_blow_up() -> None:
    reduce = make_reduce(5, 3)
    flat = torch.zeros(50, 5)
    flat[:, 0] = torch.arange(50.0)
    reduce.fit_whitening(flat)
    assert reduce.whiten(flat).abs().max() < 2
    reduce.fit_whitening(torch.ones(50, 5))
    assert reduce.whiten(torch.ones(2, 5)).isfinite().all()


@pytest.mark.parametrize("components", [0, 6])
def test_tokens_do_not_depend_on_their_company(features: torch.Tensor, components: int) -> None:
    reduce = make_reduce(20, components)
    reduce.fit_whitening(features)
    everything = reduce(features)
    for some in (slice(0, 1), slice(7, 20), slice(63, 129), slice(0, 0), slice(299, 300)):
        assert torch.equal(reduce(features[some]), everything[some])
    assert (everything - reduce.whiten(features)).abs().max() < 1e-5


def test_without_components_tokens_are_normalised(features: torch.Tensor) -> None:
    reduce = make_reduce(20, 0)
    reduce.fit_whitening(features)
    white = reduce.whiten(features)
    assert white.shape == features.shape
    assert white.mean(-1).abs().max() < 1e-5
    assert reduce.width == 20
    assert "mean" not in reduce.state_dict()


def test_bad_fits_are_refused(features: torch.Tensor) -> None:
    reduce = make_reduce(20, 6)
    with pytest.raises(ModelError, match="6 tokens are too few to fit 6 components"):
        reduce.fit_whitening(features[0, 0].expand(6, 20))
    features[3, 0, 2] = torch.inf
    with pytest.raises(ModelError, match="NaN or infinite"):
        reduce.fit_whitening(features)
    with pytest.raises(ModelError, match="21 components cannot be taken from 20"):
        make_reduce(20, 21)


def test_region_heads_average_a_regions_tokens() -> None:
    tokens = torch.randn(2, 3, 4, 8, generator=torch.Generator().manual_seed(1))
    for head in (RegionHead(8, 3), RegionOnlyHead(8, 3)):
        assert head(tokens).shape == (2, 3, 3)
        mean = tokens.mean(2, keepdim=True)
        assert torch.allclose(head(tokens), head(mean), atol=1e-6)
    # Only the region-only head sees how long a token is.
    assert torch.allclose(
        RegionHead(8, 3).norm(tokens), RegionHead(8, 3).norm(3 * tokens), atol=1e-4
    )
    assert torch.equal(RegionOnlyHead(8, 3).norm(tokens), tokens)


def test_gated_attention_is_the_published_formula() -> None:
    head = SlideHead(5, 2, "attention-mil", hidden=3).double().requires_grad_(False)
    bag = torch.randn(1, 4, 5, generator=torch.Generator().manual_seed(2)).double()
    value, gate = head.value, head.gate
    scores = []
    for token in bag[0]:
        v = torch.tanh(value.weight @ token + value.bias)
        u = 1 / (1 + torch.exp(-(gate.weight @ token + gate.bias)))
        scores.append(float(head.weight.weight[0] @ (v * u) + head.weight.bias[0]))
    shares = np.exp(scores) / np.exp(scores).sum()
    expected = sum(share * token for share, token in zip(shares, bag[0], strict=True))
    assert torch.allclose(head.pool(bag, None)[0], expected)
    mask = torch.tensor([[False, False, True, False]])
    assert torch.allclose(head.pool(bag, mask), head.pool(bag[:, [0, 1, 3]], None))


def test_class_token_lies_behind_the_field_in_every_order() -> None:
    head = SlideHead(4, 2, "class-token")
    places = torch.tensor([[[9.0, 1.0], [1.0, 9.0], [500.0, 500.0]]])
    mask = torch.tensor([[False, False, True]])
    tokens, ends, padding = head.append_class_token(torch.zeros(1, 3, 4), places, mask)
    assert ends[0, -1].tolist() == [10.0, 10.0]
    assert padding is not None
    assert padding.tolist() == [[False, False, True, False]]
    assert torch.equal(tokens[0, -1], head.class_token)
