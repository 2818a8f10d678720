from __future__ import annotations

import numpy as np
import pytest

from xt_backend.training.appearance import Appearance, turn_pixels
from xt_backend.training.augment import View, turn


@pytest.mark.parametrize("way", range(8))
def test_pixels_turn_as_fields_do(way: int) -> None:
    """A picture whose pixels are tokens: turning it is turning the field of its quarters."""
    side = 6
    picture = np.arange(side * side * 3, dtype=np.uint8).reshape(1, side, side, 3)
    rows, cols = np.mgrid[:side, :side]
    places = np.stack([cols.ravel(), rows.ravel()], axis=1).astype(np.float64)
    tokens = picture.reshape(-1, 1, 3).astype(np.float32)
    view = turn(View(tokens, places, np.ones((36, 1)), np.ones(36)), way)
    start = view.positions_um.min(axis=0)
    expected = np.empty((side, side, 3), np.uint8)
    for (x, y), token in zip((view.positions_um - start).astype(int), view.tokens, strict=True):
        expected[y, x] = token[0]
    assert np.array_equal(turn_pixels(picture, way)[0], expected)


def test_nothing_asked_for_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, 8, 8, 3), np.uint8)
    look = Appearance.draw(rng, turns=False, colour=0.0, stain=0.0)
    assert np.array_equal(look(pixels), pixels)
    assert look(pixels[:0]).shape == (0, 8, 8, 3)


def test_draws_do_not_depend_on_what_is_asked_for() -> None:
    states = []
    for turns, colour, stain in ((True, 0.1, 0.2), (False, 0.0, 0.0)):
        rng = np.random.default_rng(3)
        Appearance.draw(rng, turns=turns, colour=colour, stain=stain)
        states.append(rng.random())
    assert states[0] == states[1]


def test_stains_change_in_hed_space() -> None:
    """Twice the haematoxylin absorbs twice as much in the direction of haematoxylin."""
    from skimage.color import hed2rgb, rgb2hed

    stains = np.zeros((1, 1, 2, 3))
    stains[..., 0, 0] = 0.05
    stains[..., 1, 1] = 0.05
    pixels = np.rint(hed2rgb(stains) * 255).astype(np.uint8)
    stronger = rgb2hed(Appearance(stains=(2.0, 1.0, 1.0))(pixels))
    assert stronger[0, 0, 0, 0] == pytest.approx(0.1, abs=0.003)
    assert stronger[0, 0, 1, 1] == pytest.approx(0.05, abs=0.003)
    assert stronger[0, 0, 1, 0] == pytest.approx(0.0, abs=0.003)


def test_colours_change_as_their_names_say() -> None:
    pixels = np.array([[[[200, 100, 60], [40, 40, 40]]]], np.uint8)
    assert Appearance(brightness=0.5)(pixels)[0, 0, 0].tolist() == [100, 50, 30]
    grey = Appearance(saturation=0.0)(pixels)[0, 0, 0]
    assert len(set(grey.tolist())) == 1
    flat = Appearance(contrast=0.0)(pixels)
    assert set(flat.ravel().tolist()) == {128}
    assert Appearance(brightness=2.0)(pixels)[0, 0, 0].tolist() == [255, 200, 120]


def test_blur_spreads_light_within_a_region_only() -> None:
    pixels = np.zeros((2, 9, 9, 3), np.uint8)
    pixels[0, 4, 4] = 200
    blurred = Appearance(blur=1.0)(pixels)
    assert 10 < blurred[0, 4, 4, 0] < 60
    assert blurred[0, 4, 5, 0] > blurred[0, 4, 6, 0] > 0
    assert not blurred[1].any()
    rng = np.random.default_rng(0)
    looks = [
        Appearance.draw(rng, turns=False, colour=0, stain=0, blur=2.0).blur for _ in range(200)
    ]
    assert 60 < sum(blur == 0 for blur in looks) < 140
    assert 1.8 < max(looks) <= 2.0
