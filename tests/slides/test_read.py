"""Pixels at any place and scale: exact, without seams, the same in every read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from xt_backend.errors import SlideMppError, UnsupportedSlideError, UsageError
from xt_backend.slides import Slide, open_slide, overview, pixels, resample

from .slide_makers import area_average, texture, write_slide

RED, PAPER = (210, 30, 40), (240, 240, 240)


def _rms(a: Any, b: Any) -> float:
    return float(np.sqrt(((np.asarray(a, dtype=float) - np.asarray(b, dtype=float)) ** 2).mean()))


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """One level, 700 x 520 px at 0.25 um/px."""
    image = texture(700, 520)
    return write_slide(tmp_path_factory.mktemp("s") / "single.tiff", [image]), image


@pytest.fixture(scope="module")
def odd_pyramid(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """1999 x 1501 px with levels of 667 x 500 and 201 x 150 px: no ratio is whole, x is not y."""
    image = texture(1999, 1501, seed=5)
    levels = [image]
    for width, height in ((667, 500), (201, 150)):
        small = Image.fromarray(image).resize((width, height), Image.Resampling.HAMMING)
        levels.append(np.asarray(small))
    return write_slide(tmp_path_factory.mktemp("o") / "odd.tiff", levels), image


def test_native_pixels_are_the_files_own(single: tuple[Path, np.ndarray]) -> None:
    path, image = single
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.read(0, 0, 700, 520, 0.25), image)
        np.testing.assert_array_equal(slide.read(131, 77, 50, 40, 0.25), image[77:117, 131:181])
        np.testing.assert_array_equal(slide.read_level(0, 131, 77, 50, 40), image[77:117, 131:181])


@pytest.mark.parametrize(
    ("factor", "limit"),
    [(1.05, 1), (1.25, 1), (1.6, 1.2), (2, 1), (2.5, 1), (3.7, 1), (5.3, 1.5), (8, 2.5), (20, 4.5)],
)
def test_reducing_comes_close_to_the_exact_average(
    single: tuple[Path, np.ndarray], factor: float, limit: float
) -> None:
    path, image = single
    n = int(500 / factor)
    span = n * factor
    with open_slide(path) as slide:
        seen = slide.read(40, 10, n, n, 0.25 * factor)
    exact = area_average(image, n, n, (40, 10, 40 + span, 10 + span))
    assert _rms(seen, exact) < limit
    assert abs(float(seen.mean()) - float(exact.mean())) < 0.3, "brightness drifts"


def test_enlarging_interpolates(single: tuple[Path, np.ndarray]) -> None:
    path, image = single
    with open_slide(path) as slide:
        seen = slide.read(100, 100, 80, 80, 0.125)
    expected = Image.fromarray(image).resize(
        (80, 80), Image.Resampling.BILINEAR, (100, 100, 140, 140)
    )
    np.testing.assert_array_equal(seen, np.asarray(expected))


def test_fractional_places_differ_from_whole_ones(single: tuple[Path, np.ndarray]) -> None:
    path, image = single
    with open_slide(path) as slide:
        seen = slide.read(100.5, 100, 60, 60, 0.25)
    between = (image[100:160, 100:160].astype(float) + image[100:160, 101:161]) / 2
    assert np.abs(seen - between).max() <= 1


@pytest.mark.parametrize("mpp", [0.25, 0.3, 0.5, 0.8, 1.3, 2.0])
def test_neighbours_have_no_seam(single: tuple[Path, np.ndarray], mpp: float) -> None:
    """Four reads side by side are the one large read."""
    path, _ = single
    n = int(200 / (mpp / 0.25))
    step = n * mpp / 0.25
    with open_slide(path) as slide:
        whole = slide.read(60, 40, 2 * n, 2 * n, mpp).astype(int)
        for row in (0, 1):
            for col in (0, 1):
                part = slide.read(60 + col * step, 40 + row * step, n, n, mpp)
                cut = whole[row * n : (row + 1) * n, col * n : (col + 1) * n]
                assert np.abs(part - cut).max() <= 1


@pytest.mark.parametrize("mpp", [0.5, 1.7, 4.0])
def test_strips_leave_no_trace(
    single: tuple[Path, np.ndarray], mpp: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = single
    n = int(500 / (mpp / 0.25))
    with open_slide(path) as slide:
        at_once = slide.read(0, 0, n, n, mpp).astype(int)
        monkeypatch.setattr(resample, "MAX_STRIP_PX", 20_000)
        plan = slide.plan(mpp)
        assert len(list(resample.strips(plan, 0, 0, n, n))) > 1 or n < 40
        assert np.abs(slide.read(0, 0, n, n, mpp) - at_once).max() <= 1


def test_planted_squares_of_a_pyramid_without_whole_ratios(tmp_path: Path) -> None:
    """Small red squares, near and far: none drifts at any scale, from any level."""
    width, height = 4001, 3007
    image = np.full((height, width, 3), PAPER, dtype=np.uint8)
    squares = [(40, 30), (3900, 60), (70, 2900), (3880, 2890), (2000, 1500)]
    for x, y in squares:
        image[y : y + 48, x : x + 48] = RED
    levels = [image]
    for w, h in ((1334, 1002), (445, 334)):
        small = Image.fromarray(image).resize((w, h), Image.Resampling.BOX, reducing_gap=None)
        levels.append(np.asarray(small))
    path = write_slide(tmp_path / "squares.tiff", levels, tile=128)
    with open_slide(path) as slide:
        for mpp in (0.25, 0.5, 0.76, 1.0, 2.3, 3.0):
            used = slide.plan(mpp).level
            assert used == (0 if mpp < 0.75 else 1 if mpp < 2.25 else 2)
            scale = mpp / 0.25
            for x, y in squares:
                n = 60
                x0, y0 = x + 24 - n * scale / 2, y + 24 - n * scale / 2
                seen = slide.read(x0, y0, n, n, mpp).astype(float)
                red = np.clip((PAPER[1] - seen[:, :, 1]) / (PAPER[1] - RED[1]), 0, 1)
                # Centre of mass of the square, level-0 px off its true centre.
                at = (np.arange(n) + 0.5 - n / 2) * scale
                drift_x = float((red.sum(0) * at).sum() / red.sum())
                drift_y = float((red.sum(1) * at).sum() / red.sum())
                # The places that OpenSlide takes are whole level-0 px: half of one may be lost.
                assert max(abs(drift_x), abs(drift_y)) < 0.8, (mpp, (x, y))
                assert red.sum() * scale**2 == pytest.approx(48 * 48, rel=0.06)


def test_every_read_of_a_pixel_agrees_where_ratios_are_not_whole(
    odd_pyramid: tuple[Path, np.ndarray],
) -> None:
    path, image = odd_pyramid
    with open_slide(path) as slide:
        assert [level.exact for level in slide.pixels.levels] == [True, False, False]
        for level in (1, 2):
            width, height = slide.info.level_dimensions[level]
            whole = slide.read_level(level, 0, 0, width, height)
            true = Image.fromarray(image).resize((width, height), Image.Resampling.HAMMING)
            # OpenSlide interpolates at places between pixels: alike, not the same.
            assert _rms(whole, np.asarray(true)) < 6
            rng = np.random.default_rng(level)
            for _ in range(6):
                x, y = rng.integers(0, width - 30), rng.integers(0, height - 20)
                piece = slide.read_level(level, int(x), int(y), 30, 20)
                np.testing.assert_array_equal(piece, whole[y : y + 20, x : x + 30])


@pytest.mark.parametrize("size", [(772, 769), (699, 601), (334, 333), (251, 249)])
def test_levels_without_whole_ratios_stay_opaque(tmp_path: Path, size: tuple[int, int]) -> None:
    """No light lines where reads meet, nor at the slide's edge."""
    dark = np.full((1001, 1003, 3), 20, dtype=np.uint8)
    path = write_slide(tmp_path / "dark.tiff", [dark, dark[: size[1], : size[0]]])
    with open_slide(path) as slide:
        assert not slide.pixels.levels[1].exact
        seen = slide.read_level(1, 0, 0, *size).astype(int)
        assert np.abs(seen - 20).max() <= 3, "the background shows through"


def test_pixels_where_reads_meet_are_like_their_neighbours(tmp_path: Path) -> None:
    """Stripes one px wide: each is mixed with the next in the same way, at the seams too."""
    stripes = np.zeros((610, 700, 3), dtype=np.uint8)
    stripes[:, ::2] = 200
    path = write_slide(tmp_path / "stripes.tiff", [texture(1003, 1001), stripes])
    with open_slide(path) as slide:
        seen = slide.read_level(1, 0, 0, 700, 610).astype(int)
    mixed = seen[5, 128:640, 0].reshape(-1, 128)
    assert (np.ptp(mixed[:, ::2], axis=1) <= 2).all()
    assert (np.ptp(mixed[:, 1::2], axis=1) <= 2).all()
    assert mixed[:, 1].max() > 20, "no read falls between pixels: the test shows nothing"


@given(
    x=st.floats(-150, 690),
    y=st.floats(-150, 510),
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    mpp=st.floats(0.1, 4.0),
)
@settings(max_examples=60)
def test_padding_is_what_a_larger_background_would_give(
    single: tuple[Path, np.ndarray], x: float, y: float, width: int, height: int, mpp: float
) -> None:
    """A slide in the middle of white paper, scanned with it, reads the same."""
    path, image = single
    scale = mpp / 0.25
    if x + width * scale <= 0 or y + height * scale <= 0:
        return
    margin = 180
    room = int(max(margin, 40 * scale + 60))
    paper = np.pad(image, ((margin, room), (margin, room), (0, 0)), constant_values=255)
    with open_slide(path) as slide:
        seen = slide.read(x, y, width, height, mpp)
        plan = slide.plan(mpp)
    window = resample.make_window(plan, x + margin, y + margin, width, height)
    if min(window.x, window.y) < 0:
        return
    if plan.reduce > 1:
        # The averaged squares lie on a grid of their own.
        assert seen.shape == (height, width, 3)
        return
    rows = slice(window.y, window.y + window.height)
    raw = paper[rows, window.x : window.x + window.width]
    expected = resample.resample(raw, plan, window, width, height)
    assert np.abs(seen.astype(int) - expected).max() <= 1


def test_an_edge_region_is_the_cropped_slide_and_padding(
    single: tuple[Path, np.ndarray],
) -> None:
    path, image = single
    with open_slide(path) as slide:
        seen = slide.read(600, 450, 80, 60, 0.5)
    # 100 x 70 px of slide, an even number of px at this scale: 50 x 35 px of it, then white.
    assert (seen[36:] == 255).all()
    assert (seen[:, 51:] == 255).all()
    inner = area_average(image[450:520, 600:700], 50, 35)
    assert _rms(seen[:34, :49], inner[:34, :49]) < 2
    assert seen[:34, :49].max() <= image.max(), "the padding bled into the slide"


def test_bounds_do_not_shift_anything(tmp_path: Path) -> None:
    """Sparse tiles give bounds; places stay counted from the slide's corner."""
    image = texture(700, 500, seed=2)
    gone = [(c, r) for c in range(11) for r in range(8) if not (3 <= c < 9 and 2 <= r < 7)]
    path = write_slide(tmp_path / "sparse.tiff", [image], holes=gone)
    with open_slide(path) as slide:
        assert slide.info.bounds_px == (192, 128, 384, 320)
        assert slide.info.has_bounds
        np.testing.assert_array_equal(slide.read(192, 128, 384, 320, 0.25), image[128:448, 192:576])
        outside = slide.read(100, 60, 92, 68, 0.25)
        assert (outside == 255).all(), "what was not scanned is background, not black"
        thumbnail = slide.thumbnail(350)
    valid = np.zeros((250, 350), dtype=bool)
    valid[64:224, 96:288] = True
    np.testing.assert_array_equal(thumbnail.valid, valid)
    assert (thumbnail.rgb[~valid] == 255).mean() > 0.97


def test_axes_with_different_pixel_sizes(tmp_path: Path) -> None:
    image = texture(600, 600, seed=9)
    path = write_slide(tmp_path / "oblong.tiff", [image], mpp=(0.25, 0.27))
    with open_slide(path) as slide:
        assert slide.require_mpp().y == pytest.approx(0.27, rel=1e-3)
        mpp = slide.require_mpp()
        seen = slide.read(0, 0, 250, 250, 0.54)
        width, height = 250 * 0.54 / mpp.x, 250 * 0.54 / mpp.y
    expected = Image.fromarray(image).resize(
        (250, 250), Image.Resampling.HAMMING, (0, 0, width, height)
    )
    difference = np.abs(seen.astype(int) - np.asarray(expected))
    # Pillow stops at the first px, a read goes on into the background.
    assert difference[2:, 2:].max() <= 1


def test_slide_of_one_pixel_width(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "thin.tiff", [texture(1, 300)])
    with open_slide(path) as slide:
        seen = slide.read(0, 0, 64, 64, 0.25)
        assert (seen[:, 1:] == 255).all()
        assert (seen[:, 0] < 255).any()
        assert slide.thumbnail(100).rgb.shape == (100, 1, 3)


def test_level_is_the_nearest_finer_one(odd_pyramid: tuple[Path, np.ndarray]) -> None:
    with open_slide(odd_pyramid[0], slide_mpp=1.0) as slide:
        steps = [max(level.step_x, level.step_y) for level in slide.pixels.levels]
        assert slide.plan(1.0).level == 0
        assert slide.plan(steps[1] * 0.9999).level == 0
        assert slide.plan(steps[1]).level == 1
        assert slide.plan(steps[2] * 1.0001).level == 2
        assert slide.plan(0.5).level == 0


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda s: s.read(700, 0, 10, 10, 0.25), "outside"),
        (lambda s: s.read(0, -10, 10, 10, 0.25), "outside"),
        (lambda s: s.read(0, 0, 0, 10, 0.25), "at least 1 x 1"),
        (lambda s: s.read(0, 0, 10, -1, 0.25), "at least 1 x 1"),
        (lambda s: s.read(float("nan"), 0, 10, 10, 0.25), "not finite"),
        (lambda s: s.read(0, 0, 10, 10, 0), "0 um/px"),
        (lambda s: s.read(0, 0, 10, 10, float("nan")), "nan um/px"),
        (lambda s: s.read(0, 0, 200_000, 200_000, 0.25), "100 Mpx"),
        (lambda s: s.read(0, 0, 2000, 2000, 100), "Gpx"),
        (lambda s: s.read_level(1, 0, 0, 10, 10), "no level 1"),
        (lambda s: s.read_level(-1, 0, 0, 10, 10), "no level -1"),
        (lambda s: s.read_level(0, 700, 0, 10, 10), "outside"),
        (lambda s: s.read_level(0, 0, 0, 10, 0), "at least 1 x 1"),
        (lambda s: s.read_level(0, 0, 0, 20_000, 20_000), "100 Mpx"),
        (lambda s: s.thumbnail(0), "thumbnail of 0 px"),
        (lambda s: s.thumbnail(20_000), "20000 px"),
    ],
)
def test_senseless_requests_are_value_errors(
    single: tuple[Path, np.ndarray], call: Any, word: str
) -> None:
    with open_slide(single[0]) as slide:
        with pytest.raises(UsageError, match=word) as caught:
            call(slide)
        assert isinstance(caught.value, ValueError)
        assert slide.read(0, 0, 4, 4, 0.25).shape == (4, 4, 3)


def test_pixel_size_is_needed_for_scaled_reads_only(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "x.tiff", [texture(90, 80)], mpp=None)
    with open_slide(path) as slide:
        with pytest.raises(SlideMppError, match="--slide-mpp"):
            slide.read(0, 0, 8, 8, 0.5)
        assert slide.read_level(0, 0, 0, 8, 8).shape == (8, 8, 3)
        assert slide.thumbnail(40).rgb.shape == (36, 40, 3)


def test_objective_power_counts_only_when_accepted(tmp_path: Path) -> None:
    description = "Aperio Image Library v1\r\n90x80|AppMag = 20"
    path = write_slide(tmp_path / "x.svs", [texture(90, 80)], mpp=None, aperio=description)

    def opened(**options: Any) -> Slide:
        return open_slide(path, **options)

    with opened() as slide:
        assert slide.info.mpp is None
        assert slide.info.objective_power == 20
    with opened(accept_objective_mpp=True) as slide:
        assert slide.require_mpp().source == "objective-power"
        assert slide.require_mpp().value == 0.5
    with opened(slide_mpp=0.4, accept_objective_mpp=True) as slide:
        assert slide.require_mpp().source == "user"
        assert slide.require_mpp().value == 0.4
    weak = "Aperio Image Library v1\r\n90x80|AppMag = 1"
    write_slide(path, [texture(90, 80)], mpp=None, aperio=weak)
    with (
        opened(accept_objective_mpp=True) as slide,
        pytest.raises(SlideMppError, match="objective power of 1, a pixel size of 10"),
    ):
        slide.require_mpp()
    none = "Aperio Image Library v1\r\n90x80"
    write_slide(path, [texture(90, 80)], mpp=None, aperio=none)
    with (
        opened(accept_objective_mpp=True) as slide,
        pytest.raises(SlideMppError, match="nor an objective power"),
    ):
        slide.require_mpp()


def test_background_colour_of_the_file_shows_through() -> None:
    from xt_backend.slides.info import _background

    assert _background("80FF00") == (128, 255, 0)
    assert _background("") == _background("x") == (255, 255, 255)


def test_half_transparent_pixels_are_blended() -> None:
    class Ghost:
        def read(self, level: int, location: Any, size: tuple[int, int]) -> Image.Image:
            return Image.new("RGBA", size, (100, 0, 0, 128))

    levels = resample.levels_of([(8, 8)], [1.0])
    seen = pixels.Pixels(Ghost(), levels, (200, 200, 200)).level(0, 0, 0, 8, 8)  # type: ignore[arg-type]
    assert seen[3, 3].tolist() == [150, 100, 100]


def test_memory_stays_bounded_for_one_level_and_a_coarse_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3000 x 3000 px down to 20: read in pieces, none of them large."""
    image = np.broadcast_to(texture(3000, 1), (3000, 3000, 3))
    path = write_slide(tmp_path / "big.tiff", [image], tile=512)
    largest = 0
    with open_slide(path) as slide:
        read = slide.pixels._handle.read

        def watched(level: int, location: Any, size: tuple[int, int]) -> Image.Image:
            nonlocal largest
            largest = max(largest, size[0] * size[1])
            return read(level, location, size)

        monkeypatch.setattr(slide.pixels._handle, "read", watched)
        seen = slide.read(0, 0, 20, 20, 0.25 * 150)
    assert largest <= 2048 * 2048
    expected = area_average(image[:1], 20, 1).repeat(20, axis=0)
    # The outermost px are blended with the background beside the slide.
    assert _rms(seen[1:-1, 1:-1], expected[1:-1, 1:-1]) < 2


def test_giants_without_coarse_levels_have_no_overview(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_slide(tmp_path / "giant.tiff", [texture(600, 500)])
    monkeypatch.setattr(overview, "MAX_SOURCE_PX", 100_000)
    with open_slide(path) as slide, pytest.raises(UnsupportedSlideError, match="600 x 500"):
        slide.thumbnail(64)
