from __future__ import annotations

import numpy as np
import pytest

from xt_backend.training.augment import GLASS_UM, View, blank_tokens, join, shift, turn

from .lobules import REGION_UM, simulate


def view(seed: int = 0, side: int = 5) -> View:
    slide = simulate(seed, side)
    n = len(slide.features)
    return View(
        slide.features.astype(np.float32), slide.positions_um, slide.shares, np.ones(n, np.float32)
    )


def picture(one: View, token: int = 0) -> np.ndarray:
    """First component of a token at its place on the lattice."""
    cells = np.rint((one.positions_um - one.positions_um.min(axis=0)) / REGION_UM).astype(int)
    grid = np.full(cells.max(axis=0)[::-1] + 1, np.nan)
    grid[cells[:, 1], cells[:, 0]] = one.tokens[:, token, 0]
    return grid


def test_turns_are_the_eight_of_a_square() -> None:
    start = picture(view())
    expected = [np.rot90(face, turns) for face in (start, start.T) for turns in range(4)]
    seen = [picture(turn(view(), way)) for way in range(8)]
    for wanted in expected:
        assert sum(np.array_equal(wanted, found) for found in seen) == 1


@pytest.mark.parametrize("way", range(8))
def test_tokens_inside_a_region_turn_along(way: int) -> None:
    """2 x 2 tokens on 2 x 2 regions are the same picture as 1 token on 4 x 4 regions."""
    fine = np.arange(16.0, dtype=np.float32).reshape(4, 4)
    tokens = np.array(
        [fine[row : row + 2, col : col + 2].ravel() for row in (0, 2) for col in (0, 2)]
    )[:, :, None]
    places = np.array([(0.0, 0.0), (2.0, 0.0), (0.0, 2.0), (2.0, 2.0)])
    turned = turn(View(tokens, places, np.ones((4, 1)), np.ones(4)), way)
    rows, cols = np.mgrid[:4, :4]
    single = View(
        fine.reshape(16, 1, 1),
        np.stack([cols.ravel(), rows.ravel()], axis=1) * REGION_UM,
        np.ones((16, 1)),
        np.ones(16),
    )
    whole = picture(turn(single, way))
    corner = turned.positions_um - turned.positions_um.min(axis=0)
    for (x, y), mine in zip(corner.astype(int), turned.tokens, strict=True):
        assert np.array_equal(mine[:, 0].reshape(2, 2), whole[y : y + 2, x : x + 2])


def test_shift_hides_the_origin_and_keeps_the_shape() -> None:
    rng = np.random.default_rng(0)
    starts = np.array([shift(view(), rng).positions_um.min(axis=0) for _ in range(200)])
    assert starts.min() >= 0.0
    assert starts.max() <= GLASS_UM
    assert starts.std(axis=0) == pytest.approx(GLASS_UM / 12**0.5, rel=0.2)
    moved = shift(view(), rng).positions_um
    assert moved - moved[0] == pytest.approx(view().positions_um - view().positions_um[0])


def test_joined_slides_share_a_lattice_and_no_place() -> None:
    rng = np.random.default_rng(3)
    for _ in range(30):
        joined = join([view(0), view(1, 4), view(2, 3)], REGION_UM, rng)
        assert len(joined) == 25 + 16 + 9
        cells = joined.positions_um / REGION_UM
        assert cells == pytest.approx(np.rint(cells))
        assert len(np.unique(np.rint(cells), axis=0)) == len(joined)
        assert np.array_equal(joined.tokens[25:41], view(1, 4).tokens)
        assert np.array_equal(joined.soft[41:], view(2, 3).soft)


def test_blanked_tokens_are_the_mean() -> None:
    rng = np.random.default_rng(0)
    start = view(0, side=40)
    found = blank_tokens(start, 0.25, 0.5, rng)
    blank = (found.tokens == 0).all(axis=(1, 2))
    assert blank.mean() == pytest.approx(0.25, abs=0.05)
    added = (found.tokens - start.tokens)[~blank]
    assert added.std() == pytest.approx(0.5, rel=0.02)
    same = blank_tokens(start, 0.0, 0.0, rng)
    assert np.array_equal(same.tokens, start.tokens)
