"""Finding tissue in painted pictures whose truth is known."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage as ndi

from xt_backend.errors import UnsupportedSlideError, UsageError
from xt_backend.slides import Thumbnail, find_tissue, tissue_at, weigh

from .tissue_pictures import (
    BLUISH_HEMATOXYLIN,
    DAB,
    EOSIN,
    GLASS,
    HEMATOXYLIN,
    Colour,
    Picture,
    background,
    draw_ink,
    empty_glass,
    recall,
    section,
    smooth_section,
)

GLASSES: dict[str, Colour] = {
    "neutral": GLASS,
    "clipped": (255, 255, 255),
    "pink": (245, 205, 220),
    "yellowish": (236, 228, 192),
    "greenish": (225, 235, 225),
    "dim": (190, 190, 188),
}
INKS: dict[str, Colour] = {
    "blue": (30, 50, 190),
    "green": (20, 120, 60),
    "red": (215, 25, 35),
    "black": (25, 25, 28),
    "yellow": (250, 230, 40),
    "cyan": (0, 160, 200),
}


def plain(rgb: np.ndarray) -> Thumbnail:
    return Thumbnail(rgb, np.ones(rgb.shape[:2], bool), 1.0, 1.0)


def assert_found(
    picture: Picture,
    slide_mpp: float | None = None,
    at_least: float = 0.97,
    at_most: float = 0.05,
) -> None:
    tissue = find_tissue(picture.thumbnail(), slide_mpp=slide_mpp)
    assert tissue.kind == "partial"
    assert recall(tissue, picture.tissue) >= at_least
    assert background(tissue, picture.tissue) <= at_most


@pytest.mark.parametrize("slide_mpp", [None, 4.0])
@pytest.mark.parametrize("name", GLASSES)
def test_fat_and_stroma_are_kept_on_glass_of_any_colour(name: str, slide_mpp: float | None) -> None:
    picture = section(GLASSES[name])
    assert_found(picture, slide_mpp)
    tissue = find_tissue(picture.thumbnail(), slide_mpp=slide_mpp)
    assert tissue.glass_rgb == pytest.approx(GLASSES[name], abs=2)
    assert str(tissue.glass_rgb) in tissue.reason


@pytest.mark.parametrize(
    "stains",
    [
        (HEMATOXYLIN, DAB),
        (BLUISH_HEMATOXYLIN, DAB),
        (BLUISH_HEMATOXYLIN, EOSIN),
        ((0.8, 0.55, 0.2), (0.1, 0.9, 0.6)),
        (EOSIN, EOSIN),
    ],
    ids=["ihc", "bluish ihc", "bluish he", "trichrome", "eosin"],
)
def test_other_stains(stains: tuple[tuple[float, ...], ...]) -> None:
    assert_found(section(stains=stains), at_least=0.96)


def test_blue_areas_of_ihc_are_no_ink() -> None:
    assert_found(section(stains=(BLUISH_HEMATOXYLIN, BLUISH_HEMATOXYLIN), fat=False))


def test_faded_and_noisy_slides() -> None:
    assert_found(section(strength=0.3))
    assert_found(section(noise=5))


@pytest.mark.parametrize("density", [(0.012, 0.065, 0.035), (0.06, 0.06, 0.03)])
@pytest.mark.parametrize("reach", [0.3, 0.52])
def test_pale_tissue_without_texture_is_no_haze(density: tuple[float, ...], reach: float) -> None:
    picture = smooth_section(density, reach)
    assert_found(picture)
    assert picture.tissue.mean() > 0.8 or reach < 0.5


def test_vignetting_is_glass() -> None:
    picture = section(seed=3)
    picture.rgb = (picture.rgb * np.linspace(1, 0.8, 500)[:, None]).astype(np.uint8)
    assert_found(picture)


@pytest.mark.parametrize("slide_mpp", [None, 4.0])
@pytest.mark.parametrize("name", INKS)
def test_ink_on_glass_is_no_tissue(name: str, slide_mpp: float | None) -> None:
    picture = section(seed=1)
    ink = draw_ink(picture, [(30, 340), (60, 40), (250, 20), (470, 60)], 12, INKS[name])
    ink |= draw_ink(picture, [(30, 385), (470, 375)], 7, INKS[name])
    tissue = find_tissue(picture.thumbnail(), slide_mpp=slide_mpp)
    assert np.count_nonzero(tissue.mask & ink & ~picture.tissue) <= 0.02 * np.count_nonzero(ink)
    assert recall(tissue, picture.tissue & ~ink) >= 0.96
    assert background(tissue, picture.tissue) <= 0.06
    assert "ink" in tissue.reason


def test_much_ink_around_a_small_biopsy() -> None:
    whole = section(seed=2, fat=False)
    picture = Picture(np.full_like(whole.rgb, 242), np.zeros_like(whole.tissue))
    core = np.s_[190:220, 180:330]
    picture.rgb[core], picture.tissue[core] = whole.rgb[core], whole.tissue[core]
    ink = draw_ink(
        picture, [(30, 360), (60, 40), (460, 40), (450, 370), (30, 360)], 24, INKS["green"]
    )
    assert ink.sum() > 3 * picture.tissue.sum()
    assert_found(picture, at_least=0.95, at_most=0.1)  # the core is only 30 px wide


def test_ink_over_tissue_leaves_the_tissue_around_it() -> None:
    picture = section(seed=4, fat=False)
    ink = draw_ink(picture, [(200, 200), (300, 200)], 40, INKS["green"])
    tissue = find_tissue(picture.thumbnail())
    around = picture.tissue & ~ndi.binary_dilation(ink, iterations=7)
    assert recall(tissue, around) >= 0.97
    assert np.count_nonzero(tissue.mask & ink) <= 0.1 * np.count_nonzero(ink)


def test_black_pigment_inside_tissue_stays() -> None:
    picture = section(seed=5, fat=False)
    y, x = np.mgrid[:400, :500]
    pigment = np.hypot(y - 200, x - 250) < 15
    assert picture.tissue[pigment].all()
    picture.rgb[pigment] = (20, 18, 16)
    assert recall(find_tissue(picture.thumbnail()), pigment) >= 0.99


def test_black_frames_and_coverslip_edges() -> None:
    picture = section(seed=6)
    picture.rgb[:25], picture.rgb[-20:], picture.rgb[:, :15] = 0, 8, 3
    frame = np.ones(picture.tissue.shape, bool)
    frame[25:-20, 15:] = False
    edges = draw_ink(picture, [(0, 60), (500, 45)], 3, (90, 90, 90))
    edges |= draw_ink(picture, [(470, 0), (475, 400)], 4, (120, 118, 110))
    tissue = find_tissue(picture.thumbnail())
    off = ~picture.tissue
    assert not (tissue.mask & frame & off).any()
    assert np.count_nonzero(tissue.mask & edges & off) <= 0.02 * np.count_nonzero(edges & off)
    assert recall(tissue, picture.tissue & ~frame & ~edges) >= 0.97


def test_mostly_black_frame_around_a_bright_slide_is_no_darkfield() -> None:
    inner = section(seed=7)
    picture = Picture(np.zeros((700, 900, 3), np.uint8), np.zeros((700, 900), bool))
    picture.rgb[150:550, 200:700] = inner.rgb
    picture.tissue[150:550, 200:700] = inner.tissue
    assert_found(picture, at_least=0.95)


@pytest.mark.parametrize(
    "picture",
    [
        empty_glass(noise=0),
        empty_glass((255, 255, 255), noise=0),
        empty_glass(noise=4),
        empty_glass((240, 205, 222)),
        empty_glass((170, 170, 170)),
    ],
    ids=["flat", "white", "noisy", "pink", "dim"],
)
def test_bare_glass_holds_no_tissue(picture: Picture) -> None:
    tissue = find_tissue(picture.thumbnail())
    assert (tissue.kind, tissue.mask.any(), tissue.fraction()) == ("none", False, 0.0)
    assert tissue.reason == "the slide shows nothing but glass"


def test_stain_smeared_over_glass_and_dust_are_no_tissue() -> None:
    picture = empty_glass()
    y, x = np.mgrid[:300, :400]
    haze = 22 * np.exp(-((y - 120) ** 2 + (x - 200) ** 2) / 2 / 70**2)
    rgb = picture.rgb - haze[..., None] * np.array([0.1, 1, 0.4])
    for row, col in np.random.default_rng(0).integers(5, 290, (40, 2)):
        rgb[row : row + 3, col : col + 2] = 100
    assert find_tissue(plain(rgb.clip(0, 255).astype(np.uint8))).kind == "none"


def test_white_where_a_stitched_scan_has_no_tile() -> None:
    picture = section((232, 228, 230), seed=8)
    picture.rgb[:60, :200] = 255
    picture.rgb[330:, 300:] = 255
    assert_found(picture)


def test_no_glass_in_view_means_all_tissue() -> None:
    rgb = section(seed=9, fat=False).rgb[150:250, 190:310]
    tissue = find_tissue(plain(rgb))
    assert tissue.kind == "all"
    assert tissue.mask.all()
    assert tissue.glass_rgb is None
    assert "no glass" in tissue.reason


def test_a_white_gap_is_tissue_or_glass_by_its_size_in_um() -> None:
    picture = section(seed=10, fat=False, height=300, width=300)
    picture.rgb[picture.tissue == 0] = picture.rgb[150, 150]
    rgb = np.tile(picture.rgb[100:200, 100:200], (3, 3, 1))
    rgb[120:180, 120:180] = GLASS
    middle = np.s_[135:165, 135:165]
    assert find_tissue(plain(rgb), slide_mpp=1.0).mask[middle].all(), "60 um: a gap in fat"
    assert not find_tissue(plain(rgb), slide_mpp=8.0).mask[middle].any(), "480 um: glass"


def test_grey_pictures_need_no_colour() -> None:
    picture = section(seed=11, fat=False)
    picture.rgb = picture.rgb.mean(axis=2).astype(np.uint8)[..., None].repeat(3, axis=2)
    assert_found(picture)


def test_specks_go_and_small_holes_are_filled() -> None:
    rgb = np.full((500, 500, 3), 242, np.uint8)
    rgb[100:300, 100:300] = (200, 120, 170)
    rgb[150:156, 150:156] = 242
    rgb[400:404, 400:404] = (200, 120, 170)
    mask = find_tissue(plain(rgb), slide_mpp=10.0).mask
    assert mask[150:156, 150:156].all()
    assert not mask[380:420, 380:420].any()


def test_sensitivity_only_ever_adds() -> None:
    picture = section(strength=0.25, noise=3, seed=12)
    draw_ink(picture, [(30, 340), (60, 40), (470, 60)], 6, (90, 90, 95))
    evidence = weigh(picture.thumbnail(), slide_mpp=4.0)
    masks = [
        tissue_at(picture.thumbnail(), evidence, sensitivity=value / 20).mask for value in range(21)
    ]
    for low, high in itertools.pairwise(masks):
        assert not (low & ~high).any()
    assert masks[-1].sum() > 1.02 * masks[10].sum() > 1.02 * 1.02 * masks[0].sum()
    default = find_tissue(picture.thumbnail(), slide_mpp=4.0).mask
    np.testing.assert_array_equal(masks[10], default)


@settings(max_examples=40)
@given(
    values=st.lists(st.floats(0, 1), min_size=2, max_size=3),
    seed=st.integers(0, 50),
    slide_mpp=st.sampled_from([None, 2.0, 20.0]),
)
def test_sensitivity_only_ever_adds_in_noise(
    values: list[float], seed: int, slide_mpp: float | None
) -> None:
    rng = np.random.default_rng(seed)
    field = np.abs(ndi.gaussian_filter(rng.normal(0, 60, (60, 70)), 3)) + rng.uniform(0, 4)
    rgb = 238 - 4 * field[..., None] * (0.3, 1, 0.5) + rng.normal(0, 2, (60, 70, 3))
    thumbnail = plain(rgb.clip(0, 255).astype(np.uint8))
    evidence = weigh(thumbnail, slide_mpp=slide_mpp)
    found = [tissue_at(thumbnail, evidence, sensitivity=value) for value in sorted(values)]
    for low, high in itertools.pairwise(found):
        assert not (low.mask & ~high.mask).any()


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan")])
def test_sensitivity_is_checked(value: float) -> None:
    with pytest.raises(UsageError, match="sensitivity"):
        find_tissue(empty_glass().thumbnail(), sensitivity=value)


def test_only_pixels_of_the_slide_count() -> None:
    picture = section(seed=13, fat=False)
    whole = find_tissue(picture.thumbnail())
    valid = np.zeros((800, 900), bool)
    valid[150:550, 200:700] = True
    for filler in (0, 255, 128):
        rgb = np.full((800, 900, 3), filler, np.uint8)
        rgb[valid] = picture.rgb.reshape(-1, 3)
        tissue = find_tissue(Thumbnail(rgb, valid, 2.0, 3.0))
        assert (tissue.scale_x, tissue.scale_y) == (2.0, 3.0)
        assert not tissue.mask[~valid].any()
        inner = tissue.mask[150:550, 200:700]
        assert np.count_nonzero(inner ^ whole.mask) <= 0.01 * np.count_nonzero(whole.mask)
        assert tissue.fraction() == pytest.approx(whole.fraction(), rel=0.01)


def test_transparent_slide() -> None:
    rgb = np.zeros((20, 30, 3), np.uint8)
    tissue = find_tissue(Thumbnail(rgb, np.zeros((20, 30), bool), 1.0, 1.0))
    assert (tissue.kind, tissue.reason) == ("none", "the slide holds no pixels")
    assert tissue.fraction() == 0.0


def test_what_cannot_be_read_is_tried() -> None:
    picture = section(seed=14)
    unreadable = np.zeros(picture.tissue.shape, bool)
    unreadable[10:40, 10:60] = True
    picture.rgb[unreadable] = 255
    thumbnail = dataclasses.replace(picture.thumbnail(), unreadable=unreadable)
    tissue = find_tissue(thumbnail)
    assert tissue.mask[unreadable].all()
    assert "could not be read" in tissue.reason
    assert recall(tissue, picture.tissue) >= 0.97
    thumbnail = dataclasses.replace(thumbnail, unreadable=np.ones_like(unreadable))
    assert find_tissue(thumbnail).kind == "all"


def test_fluorescence_and_darkfield_are_refused() -> None:
    rng = np.random.default_rng(0)
    cells = ndi.gaussian_filter((rng.random((300, 300)) > 0.999) * 4000.0, 2)
    grey = np.repeat(cells.clip(3, 255).astype(np.uint8)[..., None], 3, axis=2)
    for colour in ((0, 0, 1), (1, 1, 1)):
        with pytest.raises(UnsupportedSlideError, match="mostly black") as caught:
            find_tissue(plain(grey * np.array(colour, np.uint8)))
        assert "--tissue all" in caught.value.way_out
    channels = rng.integers(40, 220, (40, 50, 3)).repeat(8, axis=0).repeat(8, axis=1)
    with pytest.raises(UnsupportedSlideError, match="fluorescence channels"):
        find_tissue(plain(channels.astype(np.uint8)))


def test_darkness_outside_the_slide_is_not_the_slide() -> None:
    picture = section(seed=15)
    valid = np.zeros((900, 1100), bool)
    valid[:400, :500] = True
    rgb = np.zeros((900, 1100, 3), np.uint8)
    rgb[:400, :500] = picture.rgb
    assert find_tissue(Thumbnail(rgb, valid, 1.0, 1.0)).kind == "partial"


def test_a_black_picture_holds_nothing() -> None:
    rgb = np.random.default_rng(0).integers(0, 5, (50, 60, 1), np.uint8).repeat(3, axis=2)
    tissue = find_tissue(plain(rgb))
    assert (tissue.kind, tissue.reason) == ("none", "the slide is black everywhere")


@pytest.mark.parametrize("slide_mpp", [None, 0.25, 100.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 60), (60, 1), (2, 3), (7, 7), (16, 16), (17, 250)])
def test_tiny_slides(shape: tuple[int, int], slide_mpp: float | None) -> None:
    white = np.full((*shape, 3), 255, np.uint8)
    assert find_tissue(plain(white), slide_mpp=slide_mpp).kind == "none"
    pink = np.full((*shape, 3), (190, 90, 150), np.uint8)
    assert find_tissue(plain(pink), slide_mpp=slide_mpp).kind == "all"
    noise = np.random.default_rng(0).integers(150, 255, (*shape, 3), np.uint8)
    noise[..., 1] = noise[..., 0] // 2
    assert find_tissue(plain(noise), slide_mpp=slide_mpp).mask.shape == shape


def test_same_picture_same_mask_and_untouched_input() -> None:
    picture = section(seed=16)
    before = picture.rgb.copy()
    first, second = find_tissue(picture.thumbnail()), find_tissue(picture.thumbnail())
    np.testing.assert_array_equal(first.mask, second.mask)
    np.testing.assert_array_equal(picture.rgb, before)
    assert first.mask.dtype == np.bool_
