"""Pixels: no seams, no sign of the label outside the nest, and nests that are easy to see."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import shapely
from shapely.geometry import Polygon
from skimage.color import rgb2hsv
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from xt_backend.samples.layout import Layout, Lobule, draw_layout
from xt_backend.samples.noise import Window
from xt_backend.samples.nuclei import StampSet, make_stamp_sets
from xt_backend.samples.render import Renderer
from xt_backend.samples.stain import draw_stain
from xt_backend.samples.texture import Textures, make_textures

Pixels = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def textures() -> Textures:
    return make_textures(np.random.default_rng(1))


@pytest.fixture(scope="module")
def stamps() -> dict[str, StampSet]:
    return make_stamp_sets(np.random.default_rng(2))


def _renderer(
    layout: Layout, textures: Textures, stamps: dict[str, StampSet], seed: int
) -> Renderer:
    return Renderer(layout, textures, stamps, draw_stain(np.random.default_rng(seed)), seed)


def test_windows_of_any_place_fit_together(textures: Textures, stamps: dict[str, StampSet]) -> None:
    layout = draw_layout(2048, 2048, (4, 0))
    renderer = _renderer(layout, textures, stamps, 0)
    nest = layout.nests[0].centroid
    x0, y0 = int(nest.x) - 150, int(nest.y) - 130
    whole = renderer.render(Window(x0, y0, 320, 270))
    left = renderer.render(Window(x0, y0, 117, 270))
    right = renderer.render(Window(x0 + 117, y0, 203, 101))
    low = renderer.render(Window(x0 + 117, y0 + 101, 203, 169))
    np.testing.assert_array_equal(np.hstack([left, np.vstack([right, low])]), whole)


def test_stroma_is_the_same_to_the_pixel_with_and_without_a_nest(
    textures: Textures, stamps: dict[str, StampSet]
) -> None:
    layout = draw_layout(2048, 2048, (4, 0))
    turned = replace(
        layout,
        lobules=tuple(replace(lb, has_nest=not lb.has_nest) for lb in layout.lobules),
    )
    for lobule in layout.lobules:
        x, y = (int(v) for v in lobule.nest_site.centroid.coords[0])
        window = Window(x - 260, y - 260, 520, 520)
        one, other = (
            _renderer(each, textures, stamps, 0).render(window) for each in (layout, turned)
        )
        column, row = np.meshgrid(np.arange(520) + x - 260, np.arange(520) + y - 260)
        # Nuclei cut off by a nest may end this far outside it.
        near = shapely.contains_xy(lobule.nest_site.buffer(34), column, row)
        np.testing.assert_array_equal(one[~near], other[~near])
        deep = shapely.contains_xy(lobule.nest_site.buffer(-10), column, row)
        with_nest, without = (one, other) if lobule.has_nest else (other, one)
        assert with_nest[deep].mean() < without[deep].mean() - 20


def _regions(
    lobule: Lobule, rng: np.random.Generator, count: int, side: int = 256
) -> Iterator[Window]:
    """Squares inside a lobule and clear of its nest."""
    x0, y0, x1, y1 = (int(v) for v in lobule.outline.bounds)
    nest = lobule.nest_site.buffer(6) if lobule.has_nest else Polygon()
    while count:
        x, y = int(rng.integers(x0, x1 - side)), int(rng.integers(y0, y1 - side))
        square = shapely.box(x, y, x + side, y + side)
        if lobule.outline.contains(square) and not nest.intersects(square):
            count -= 1
            yield Window(x, y, side, side)


def _statistics(pixels: Pixels) -> npt.NDArray[np.float64]:
    values = np.concatenate([pixels / 255.0, rgb2hsv(pixels)], axis=2).reshape(-1, 6)
    cuts = np.percentile(values, [2, 10, 25, 50, 75, 90, 98], axis=0)
    return np.concatenate([values.mean(axis=0), values.std(axis=0), cuts.ravel()])


def _auroc(
    table: npt.NDArray[np.float64], label: npt.NDArray[np.bool_], fold: npt.NDArray[np.int64]
) -> float:
    """Of a linear probe on slides that it was not fitted on."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.03, max_iter=2000))
    score = np.zeros(len(label))
    for part in np.unique(fold):
        probe.fit(table[fold != part], label[fold != part])
        score[fold == part] = probe.decision_function(table[fold == part])
    return float(
        np.mean([roc_auc_score(label[fold == k], score[fold == k]) for k in np.unique(fold)])
    )


def test_colours_tell_the_nest_but_not_its_neighbourhood(
    textures: Textures, stamps: dict[str, StampSet]
) -> None:
    rng = np.random.default_rng(0)
    stroma, reactive, stroma_slide = [], [], []
    nests, nest_slide = [], []
    for seed in range(18):
        layout = draw_layout(3072, 3072, (seed, 1))
        renderer = _renderer(layout, textures, stamps, seed)
        for lobule in layout.lobules:
            for window in _regions(lobule, rng, 1):
                stroma.append(_statistics(renderer.render(window)))
                reactive.append(lobule.has_nest)
                stroma_slide.append(seed)
        for nest in layout.nests:
            x, y = (int(v) + int(rng.integers(-60, 61)) for v in nest.centroid.coords[0])
            nests.append(_statistics(renderer.render(Window(x - 128, y - 128, 256, 256))))
            nest_slide.append(seed)
    fold = np.array(stroma_slide) % 3
    assert _auroc(np.array(stroma), np.array(reactive), fold) < 0.6
    both = np.array(stroma + nests)
    has_nest = np.arange(len(both)) >= len(stroma)
    assert _auroc(both, has_nest, np.concatenate([fold, np.array(nest_slide) % 3])) > 0.95


def test_slides_differ_in_stain_and_glass_is_bright(
    textures: Textures, stamps: dict[str, StampSet]
) -> None:
    layout = draw_layout(1024, 1024, (0, 0))
    x, y = (int(v) for v in layout.lobules[0].outline.centroid.coords[0])
    means = []
    for seed in range(8):
        renderer = _renderer(layout, textures, stamps, seed)
        glass = renderer.render(Window(-300, -300, 64, 64))
        assert glass.min() > 215
        assert 0.5 < glass.std(axis=(0, 1)).mean() < 4
        stroma = renderer.render(Window(x - 64, y - 64, 128, 128)).reshape(-1, 3).mean(axis=0)
        red, green, blue = stroma
        assert green < blue < red + 25
        assert green < red - 15
        means.append(stroma)
    assert (np.std(means, axis=0) > 3).all()
