from __future__ import annotations

import math

import pytest
import torch

from xt_backend.errors import ModelError
from xt_backend.model.positions import sincos_2d, token_positions_um


def test_sincos_is_the_written_formula() -> None:
    place = torch.tensor([[130.0, 4000.5]])
    found = sincos_2d(place, 14, (256.0, 65536.0))[0]
    lengths = [256.0, 4096.0, 65536.0]
    expected = [
        *(math.sin(2 * math.pi * 130.0 / w) for w in lengths),
        *(math.cos(2 * math.pi * 130.0 / w) for w in lengths),
        *(math.sin(2 * math.pi * 4000.5 / w) for w in lengths),
        *(math.cos(2 * math.pi * 4000.5 / w) for w in lengths),
        0.0,
        0.0,
    ]
    assert found.tolist() == pytest.approx(expected, abs=1e-9)


def test_neighbouring_regions_differ_everywhere_on_the_glass() -> None:
    x = torch.arange(0, 60000, 128.0)
    encoded = sincos_2d(torch.stack([x, torch.zeros_like(x)], -1), 32)
    apart = torch.cdist(encoded, encoded)
    apart.fill_diagonal_(9.0)
    assert apart.min() > 0.5


def test_dimension_too_small_for_positions_is_refused() -> None:
    with pytest.raises(ModelError, match="at least 4, not 3"):
        sincos_2d(torch.zeros(1, 2), 3)


def test_token_places_are_centres_of_a_k_by_k_split() -> None:
    found = token_positions_um(torch.tensor([[[100.0, 200.0]]]), 2, 64.0)
    assert found.tolist() == [[[84.0, 184.0], [116.0, 184.0], [84.0, 216.0], [116.0, 216.0]]]
    assert token_positions_um(torch.tensor([[[1.0, 2.0]]]), 1, 64.0).tolist() == [[[1.0, 2.0]]]
