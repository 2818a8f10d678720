from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xt_backend.errors import ModelError
from xt_backend.model.positions import reading_order, sincos_2d, token_positions_um


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


cells = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 6), st.booleans()), min_size=1, max_size=24
)


@settings(max_examples=60, deadline=None)
@given(cells, st.booleans(), st.booleans(), st.floats(0, 1e5), st.floats(0.06, 5))
def test_reading_order_is_a_plain_sort(
    cells: list[tuple[int, int, bool]], columns: bool, backward: bool, shift: float, mpp: float
) -> None:
    pitch = 256 * mpp
    places = torch.tensor([[x * pitch + shift, y * pitch + shift] for x, y, _ in cells])
    padding = torch.tensor([p for _, _, p in cells])
    found = reading_order(places[None], padding[None], columns=columns, backward=backward)[0]
    valid = [i for i in range(len(cells)) if not cells[i][2]]
    valid.sort(key=lambda i: (cells[i][0], cells[i][1]) if columns else (cells[i][1], cells[i][0]))
    if backward:
        valid.reverse()
    assert found.tolist()[: len(valid)] == valid
    assert sorted(found.tolist()) == list(range(len(cells)))


def test_rounding_noise_does_not_split_a_row() -> None:
    places = torch.tensor([[0.0, 96.5], [128.0, 96.5 - 1e-5], [256.0, 96.5 + 1e-5]])
    assert reading_order(places[None])[0].tolist() == [0, 1, 2]
