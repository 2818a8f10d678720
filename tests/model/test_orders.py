"""In which order sequence models meet the regions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xt_backend.model.orders import ORDERS, PATHS, reading_order, way_of_layer

cells = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 6), st.booleans()), min_size=1, max_size=24
)


def plain_sort(cells: list[tuple[int, int, bool]], path: str, exchanged: bool) -> list[int]:
    """The order as one would write it for a handful of cells."""
    places = [(y, x) if exchanged else (x, y) for x, y, _ in cells]
    valid = [i for i in range(len(cells)) if not cells[i][2]]
    if path == "raster":
        return sorted(valid, key=lambda i: (places[i][1], places[i][0]))
    rows = sorted({places[i][1] for i in valid})
    way = {row: -1 if rank % 2 else 1 for rank, row in enumerate(rows)}
    order = sorted(valid, key=lambda i: (places[i][1], way[places[i][1]] * places[i][0]))
    last = [
        i
        for i in valid
        if all(places[j][0] < places[i][0] and places[j][1] < places[i][1] for j in valid if j != i)
    ]
    return [i for i in order if i not in last] + last


@settings(max_examples=100, deadline=None)
@given(
    cells,
    st.sampled_from(["raster", "serpentine"]),
    st.booleans(),
    st.booleans(),
    st.floats(0, 1e5),
    st.floats(0.06, 5),
)
def test_reading_order_is_a_plain_sort(
    cells: list[tuple[int, int, bool]],
    path: str,
    exchanged: bool,
    backward: bool,
    shift: float,
    mpp: float,
) -> None:
    pitch = 256 * mpp
    places = torch.tensor([[x * pitch + shift, y * pitch + shift] for x, y, _ in cells])
    padding = torch.tensor([p for _, _, p in cells])
    found = reading_order(
        places[None], padding[None], path=path, exchanged=exchanged, backward=backward
    )[0]
    valid = plain_sort(cells, path, exchanged)
    if backward:
        valid.reverse()
    assert found.tolist()[: len(valid)] == valid
    assert sorted(found.tolist()) == list(range(len(cells)))


def test_rounding_noise_does_not_split_a_row() -> None:
    places = torch.tensor([[0.0, 96.5], [128.0, 96.5 - 1e-5], [256.0, 96.5 + 1e-5]])
    assert reading_order(places[None])[0].tolist() == [0, 1, 2]


def lattice(side: int, pitch_um: float = 128.0) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.stack([x, y], -1).reshape(1, -1, 2).double() * pitch_um + 333.0


@pytest.mark.parametrize("side", [2, 4, 8, 16])
@pytest.mark.parametrize("exchanged", [False, True])
def test_hilbert_visits_every_place_once_and_only_steps_to_neighbours(
    side: int, exchanged: bool
) -> None:
    places = lattice(side, 96.3)
    # The last region is put last on purpose; what comes before is the curve without it.
    order = reading_order(places, path="hilbert", exchanged=exchanged)[0]
    assert sorted(order.tolist()) == list(range(side * side))
    steps = places[0, order].diff(dim=0).abs().sum(dim=1) / 96.3
    jumps = int((steps.round() != 1).sum())
    assert jumps <= 2
    across = reading_order(places.flip(-1), path="hilbert", exchanged=not exchanged)[0]
    assert order.tolist() == across.tolist()


def test_hilbert_keeps_neighbours_together_where_tissue_has_holes() -> None:
    places = lattice(16)
    kept = torch.rand(256, generator=torch.Generator().manual_seed(0)) < 0.7
    places = places[:, kept]

    def spread(path: str) -> float:
        order = reading_order(places, path=path)[0]
        far = places[0, order[8:]] - places[0, order[:-8]]
        return float(far.norm(dim=1).mean())

    assert spread("hilbert") < 0.6 * spread("raster")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("exchanged", [False, True])
def test_a_class_token_beyond_all_comes_last(path: str, exchanged: bool) -> None:
    places = lattice(5)
    beyond = places.amax(dim=1, keepdim=True) + 1.0
    order = reading_order(torch.cat([beyond, places], 1), path=path, exchanged=exchanged)[0]
    assert order[-1] == 0
    without = reading_order(places[:, :-1], path=path, exchanged=exchanged)[0]
    # The lattice's own corner region is then one of many.
    assert [i - 1 for i in order.tolist() if i not in (0, 25)] == without.tolist()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("backward", [False, True])
def test_padding_changes_nothing_and_comes_last(path: str, backward: bool) -> None:
    places = lattice(6)[:, 3:31]
    alone = reading_order(places, path=path, backward=backward)[0]
    rubbish = torch.tensor([[[-9e3, 40.0], [1e5, 1e5], [7.0, -3e4]]], dtype=torch.float64)
    padded = torch.cat([rubbish, places], dim=1)
    mask = torch.zeros(padded.shape[:2], dtype=torch.bool)
    mask[:, :3] = True
    found = reading_order(padded, mask, path=path, backward=backward)[0]
    assert (found[:-3] - 3).tolist() == alone.tolist()


def test_every_order_reads_forwards_last() -> None:
    for order in ORDERS:
        path, exchanged, backward = way_of_layer(order, 0, True)
        assert path in PATHS
        assert exchanged == (order == "columns")
        assert not backward
