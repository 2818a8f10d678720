from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.score_maps import CLASSES, COLORS, make_score_map

from xt_backend.errors import UsageError
from xt_backend.keys import DEFAULT_COLORS, OverlayText, RegionStatus, RunMeta
from xt_backend.outputs import SlideMask, overlay_image, rgb, write_overlay
from xt_backend.outputs.dots import draw_dots
from xt_backend.outputs.legend import Mark, marks_of, pattern, scale_bar_um
from xt_backend.slides.lattice import Lattice
from xt_backend.store import MaskGrid, Points, ScoreMap

SCALE = 10.0
GREY = 200


def plain_map(stride: int = 64, **changes: Any) -> ScoreMap:
    """Bounds 2000..12000 x 1000..10000, regions of 64 px at 0.5 um/px: 320 level-0 px."""
    lattice = Lattice.for_bounds((2000, 1000, 10000, 9000), (0.1, 0.1), 0.5, 64, stride)
    inside = lattice.all_cells()[~lattice.is_edge(lattice.all_cells())]
    cells = changes.pop("cells", inside[40:90])
    logits = np.zeros((len(cells), 3), np.float32)
    logits[:, 1] = 5
    base = {
        "lattice": lattice,
        "cells": cells,
        "logits": logits,
        "status": np.zeros(len(cells), np.uint8),
        "width_px": 13000,
        "height_px": 11000,
    }
    return make_score_map(**{**base, **changes})


def whole(score_map: ScoreMap, found: SlideMask | Points | None = None) -> Any:
    """The overlay over grey."""
    thumbnail = np.full((1100, 1300, 3), GREY, np.uint8)
    return overlay_image(score_map, thumbnail, SCALE, SCALE, found)


def draw(score_map: ScoreMap, found: SlideMask | Points | None = None) -> Any:
    """The overlay's picture alone; 1000 x 900 px, one px per 10 level-0 px."""
    return whole(score_map, found)[:900, :1000]


def blended(color: str) -> Any:
    return np.rint((np.array(rgb(color)) + GREY) / 2)


def test_colour_lies_exactly_on_the_scored_regions() -> None:
    score_map = plain_map()
    picture = draw(score_map)
    wanted = np.full((900, 1000, 3), GREY, np.uint8)
    for x0, y0, x1, y1 in (score_map.lattice.boxes(score_map.cells) - [2000, 1000] * 2).tolist():
        wanted[y0 // 10 : y1 // 10, x0 // 10 : x1 // 10] = blended(COLORS[1])
    np.testing.assert_array_equal(picture, wanted)
    assert (picture != GREY).any(axis=2).sum() == 50 * 32 * 32


def test_each_class_has_its_colour() -> None:
    logits = np.full((50, 3), -9, np.float32)
    logits[np.arange(50), np.arange(50) % 3] = 9
    score_map = plain_map(logits=logits, thresholds={})
    picture = draw(score_map)
    for i, box in enumerate((score_map.lattice.boxes(score_map.cells)).tolist()):
        x, y = (box[0] - 2000) // 10 + 16, (box[1] - 1000) // 10 + 16
        assert picture[y, x].tolist() == blended(COLORS[i % 3]).tolist()


def test_what_was_not_scored_never_looks_like_a_class() -> None:
    status = np.zeros(50, np.uint8)
    status[10], status[20] = RegionStatus.READ_ERROR, RegionStatus.SKIPPED
    status[40], status[45] = RegionStatus.SCREENED_OUT, RegionStatus.EXCLUDED
    logits = np.zeros((50, 3), np.float32)
    logits[30] = np.nan
    score_map = plain_map(status=status, logits=logits, thresholds={})
    assert marks_of(score_map)[[10, 20, 30, 40, 45]].tolist() == list(Mark)
    assert (np.delete(marks_of(score_map), [10, 20, 30, 40, 45]) == -1).all()
    picture = draw(score_map)
    seen = set()
    for row in (10, 20, 30, 40, 45):
        x0, y0, x1, y1 = (score_map.lattice.boxes(score_map.cells)[row] - [2000, 1000] * 2) // 10
        patch = picture[y0:y1, x0:x1].reshape(-1, 3)
        colors = np.unique(patch, axis=0)
        assert len(colors) == 2  # a pattern
        for color in COLORS:
            assert not (colors == blended(color)).all(axis=1).any()
        seen.add(patch.tobytes())
    assert len(seen) == 5


def test_dense_models_show_their_mask_pixel_by_pixel() -> None:
    """One mask pixel is 20 level-0 px, two of the picture; its classes are not the regions'."""
    score_map = plain_map(task="dense")
    grid = MaskGrid(score_map.lattice)
    canvas = np.zeros(grid.shape, np.uint8)
    tile = np.random.default_rng(0).integers(0, 4, (16, 16)).astype(np.uint8)
    for col, row in score_map.cells.tolist():
        canvas[row * 16 : row * 16 + 16, col * 16 : col * 16 + 16] = tile
    picture = draw(score_map, SlideMask.of(canvas, score_map))
    colors = np.array([(GREY,) * 3, *map(blended, COLORS)])
    wanted = colors[canvas].repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(picture, wanted[:900, :1000])
    # Without it nothing is coloured by regions instead.
    assert not (draw(score_map) == blended(COLORS[1])).all(axis=2).any()
    assert swatches(score_map, SlideMask.of(canvas, score_map)) == set(COLORS)
    assert swatches(score_map) == set()


def swatches(score_map: ScoreMap, found: SlideMask | Points | None = None) -> set[str]:
    """Colours of the classes that are in the legend."""
    legend = whole(score_map, found)[:, 1000:]
    return {color for color in COLORS if (legend == rgb(color)).all(axis=2).sum() > 20}


def test_unread_regions_are_marked_whatever_the_task() -> None:
    status = np.zeros(50, np.uint8)
    status[10] = RegionStatus.READ_ERROR
    for task in ("dense", "detection", "slide"):
        score_map = plain_map(task=task, status=status)
        x0, y0, x1, y1 = (score_map.lattice.boxes(score_map.cells)[10] - [2000, 1000] * 2) // 10
        inside = draw(score_map)[y0 + 3 : y1 - 3, x0 + 3 : x1 - 3].reshape(-1, 3)
        assert len(np.unique(inside, axis=0)) == 2


def some_points(n: int = 3) -> Points:
    """In the middle of the slide, some px apart; kinds in turn."""
    steps = 400.0 * np.arange(n)
    kinds = np.arange(n) % 2
    return Points(4000 + steps % 6000, 5000 + steps // 6000 * 40, kinds, np.linspace(1, 0.5, n))


def test_detection_models_show_their_points_and_no_region_as_a_class() -> None:
    score_map = plain_map(task="detection", run_meta={RunMeta.N_POINTS: {"Tumour": 2, "Fat": 1}})
    points = some_points()
    picture = draw(score_map, points)
    for x, y, kind in zip(points.x_px, points.y_px, points.kind, strict=True):
        at = round((y - 1000) / 10), round((x - 2000) / 10)
        assert tuple(picture[at]) == rgb(COLORS[1 + kind])
    for color in COLORS:
        assert not (picture == blended(color)).all(axis=2).any()
    bare = draw(score_map)
    changed = (picture != bare).any(axis=2)
    assert 3 * 100 < changed.sum() < 3 * 400
    # A line around what was looked at, and nothing within.
    x0, y0, x1, y1 = (score_map.lattice.boxes(score_map.cells[25:26])[0] - [2000, 1000] * 2) // 10
    assert (bare != GREY).any()
    assert (bare[y0 + 3 : y1 - 3, x0 + 3 : x1 - 3] == GREY).all()
    assert swatches(score_map, points) == {COLORS[1], COLORS[2]}
    # The numbers are those of the points.
    legends = {whole(score_map, some_points(n))[:, 1000:].tobytes() for n in (3, 4, 5)}
    assert len(legends) == 3


def test_kinds_of_points_differ_by_more_than_colour() -> None:
    score_map = plain_map(task="detection", colors=("#000000", "#d55e00", "#d55e00"))
    shapes = set()
    for kind in (0, 1):
        one = Points(np.array([5.0]), np.array([5.0]), np.array([kind]), np.array([1.0]))
        paper = np.full((1000, 1000, 3), 255, np.uint8)
        shapes.add(draw_dots(paper, score_map, one, np.array([50.0]), np.array([50.0])).tobytes())
    assert len(shapes) == 2


def test_many_points_leave_the_slide_to_be_seen() -> None:
    rng = np.random.default_rng(0)
    n = 30_000
    points = Points(
        rng.uniform(2000, 12000, n), rng.uniform(1000, 10000, n), np.zeros(n), rng.random(n)
    )
    score_map = plain_map(task="detection")
    drawn = (draw(score_map, points) == rgb(COLORS[1])).all(axis=2).mean()
    assert 0.1 < drawn < 0.6


def test_slide_models_colour_no_region() -> None:
    """Under "Slide: Stroma" a field of the colour of Tumour would be read as a finding."""
    chances = np.array([5, 0, 0], np.float32)
    score_map = plain_map(task="slide", slide_logits=chances)
    picture = draw(score_map)
    for color in COLORS:
        assert not (picture == blended(color)).all(axis=2).any()
    assert swatches(score_map) == set()
    other = replace(score_map, slide_logits=chances[::-1])
    assert (whole(score_map)[:, 1000:].tobytes()) != (whole(other)[:, 1000:].tobytes())
    # What the regions would say changes nothing.
    regions = replace(score_map, logits=score_map.logits[:, ::-1])
    np.testing.assert_array_equal(whole(score_map), whole(regions))


def test_overlapping_regions_show_their_middles() -> None:
    score_map = plain_map(stride=32, cells=np.array([(4, 4)]))
    painted = (draw(score_map) != GREY).any(axis=2)
    ys, xs = np.nonzero(painted)
    # Region 640..960 level-0 px, its middle as wide as the stride of 160: 720..880.
    assert (xs.min(), xs.max(), ys.min(), ys.max()) == (72, 87, 72, 87)


def test_regions_smaller_than_a_pixel_are_drawn_by_nearest_middle() -> None:
    lattice = Lattice.for_bounds((0, 0, 8000, 8000), (0.5, 0.5), 0.5, 6)
    cells = lattice.all_cells()[: 150 * lattice.n_cols]
    logits = np.tile(np.array([[9, 0, 0]]), (len(cells), 1))
    score_map = make_score_map(
        lattice=lattice, cells=cells, status=np.zeros(len(cells)), logits=logits, thresholds={}
    )
    image = overlay_image(score_map, np.full((1000, 1000, 3), GREY, np.uint8), 8.0, 8.0)
    # 150 rows of 6 px are 112.5 picture rows of 8 px.
    assert (image[:112, :1000] == blended(COLORS[0])).all()
    assert (image[113:1000, :1000] == GREY).all()


def test_small_pictures_are_enlarged_and_thin_ones_survive() -> None:
    score_map = plain_map()
    small = overlay_image(score_map, np.full((110, 130, 3), GREY, np.uint8), 100.0, 100.0)
    assert small.shape[0] > 810
    assert small.shape[1] > 900
    lattice = Lattice.for_bounds((0, 0, 1, 5000), (0.5, 0.5), 0.5, 256)
    thin = make_score_map(lattice=lattice, cells=lattice.all_cells()[:4])
    image = overlay_image(thin, np.full((1000, 1, 3), GREY, np.uint8), 5.0, 5.0)
    assert image.shape[0] > 1000


def test_the_legend_names_classes_and_shares() -> None:
    """No reading of letters here: each change of what it says must change its pixels."""
    score_map = plain_map()

    def legend(**changes: Any) -> bytes:
        thumbnail = np.full((1100, 1300, 3), GREY, np.uint8)
        image = overlay_image(plain_map(**changes), thumbnail, SCALE, SCALE)
        return bytes(image[:, 1000:].tobytes())

    first = legend()
    assert legend() == first
    other_shares = score_map.logits.copy()
    other_shares[:10, 0] = 9
    changes: list[dict[str, Any]] = [
        {"classes": ("Stroma", "Tumor", "Fat"), "thresholds": {}},
        {"colors": ("#0072b2", "#d55e01", "#009e73")},
        {"logits": other_shares, "thresholds": {}},
        {"slide_id": "another"},
        {"model_name": "another"},
        {"partial": True},
        {"status": np.full(50, RegionStatus.READ_ERROR)},
        {"slide_logits": np.array([1, 2, 3], np.float32)},
    ]
    assert len({first, *(legend(**change) for change in changes)}) == len(changes) + 1
    swatch = np.array(rgb(COLORS[2]), np.uint8).tobytes()
    assert first.count(swatch * 8) > 8


def test_the_scale_bar_is_as_long_as_it_says() -> None:
    thumbnail = np.full((1100, 1300, 3), GREY, np.uint8)
    image = overlay_image(plain_map(), thumbnail, SCALE, SCALE)
    below = image[900:, :1000]
    longest = 0
    for line in (below < 100).all(axis=2):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], line.astype(int), [0]])))
        longest = max([longest, *np.diff(edges)[::2].tolist()])
    # 1 um per picture px: a quarter of the picture is 250 um, so the bar says 200.
    assert longest == pytest.approx(200, abs=2)


@pytest.mark.parametrize(
    ("most", "bar"), [(1, 1), (1.9, 1), (2.5, 2), (9, 5), (99, 50), (5000, 5000), (0.3, 0.2)]
)
def test_scale_bars_are_round_numbers(most: float, bar: float) -> None:
    assert scale_bar_um(most) == pytest.approx(bar)


def test_many_classes_and_long_names_fit() -> None:
    classes = tuple(f"{i} " + "very " * 20 + "long" for i in range(60))
    score_map = plain_map(
        classes=classes,
        colors=(DEFAULT_COLORS * 8)[:60],
        logits=np.zeros((50, 60)),
        region_only_logits=np.zeros((50, 60)),
        thresholds={},
    )
    image = overlay_image(score_map, np.full((1100, 1300, 3), GREY, np.uint8), SCALE, SCALE)
    assert image.shape[0] > 60 * 15
    assert image.shape[1] < 2200
    assert (image[:, -3:] == 255).all()


@pytest.mark.parametrize(
    ("thumbnail", "scale"),
    [
        (np.zeros((5, 5), np.uint8), 1.0),
        (np.zeros((5, 5, 4), np.uint8), 1.0),
        (np.zeros((5, 5, 3), np.float32), 1.0),
        (np.zeros((0, 5, 3), np.uint8), 1.0),
        (np.zeros((5, 5, 3), np.uint8), 0.0),
        (np.zeros((5, 5, 3), np.uint8), float("nan")),
    ],
)
def test_what_is_no_thumbnail_is_refused(thumbnail: Any, scale: float) -> None:
    with pytest.raises(UsageError, match="thumbnail"):
        overlay_image(plain_map(), thumbnail, scale, scale)


def test_written_as_png_the_same_each_time(tmp_path: Path) -> None:
    path = tmp_path / "x.overlay.png"
    thumbnail = np.full((1100, 1300, 3), GREY, np.uint8)
    write_overlay(path, plain_map(), thumbnail, SCALE, SCALE)
    first = path.read_bytes()
    plain_map().save(tmp_path / "x.run.h5")
    write_overlay(path, ScoreMap.load(tmp_path / "x.run.h5"), thumbnail, SCALE, SCALE)
    assert path.read_bytes() == first
    with Image.open(path) as image:
        drawn = overlay_image(plain_map(), thumbnail, SCALE, SCALE)
        np.testing.assert_array_equal(np.asarray(image), drawn)


def test_the_file_says_that_its_points_are_drawn(tmp_path: Path) -> None:
    path = tmp_path / "x.overlay.png"
    thumbnail = np.full((1100, 1300, 3), GREY, np.uint8)
    write_overlay(path, plain_map(task="detection"), thumbnail, SCALE, SCALE, some_points())
    with Image.open(path) as image:
        assert image.info[OverlayText.POINTS] == "3"


def test_on_a_real_slide_with_bounds(shared_data: Path) -> None:
    from xt_backend.slides import open_slide

    with open_slide(shared_data / "slides-layouts" / "bcss_1015_crop_leica.scn") as slide:
        info, thumbnail = slide.info, slide.thumbnail(1024)
        mpp = slide.require_mpp()
    lattice = Lattice.for_bounds(info.bounds_px, (mpp.x, mpp.y), 0.5, 128)
    cells = lattice.all_cells()[:20]
    score_map = make_score_map(
        lattice=lattice, cells=cells, status=[0] * 20, width_px=info.width_px
    )
    image = overlay_image(score_map, thumbnail.rgb, thumbnail.scale_x, thumbnail.scale_y)
    side = max(900, round(2048 / thumbnail.scale_x))
    corner, far = image[4 : side // 8, 4 : side // 8], image[-side // 3 :, : side // 2]
    # The tissue in its bounds fills the picture: pink where no region was selected.
    assert corner.std() > 5
    assert far[: side // 8].astype(int)[..., 0].mean() > far[: side // 8].astype(int)[..., 1].mean()


def test_colours_are_read_from_hex_text_alone() -> None:
    assert rgb("#FF8000") == (255, 128, 0)
    for wrong in ("ff8000", "#ff80", "#ff800g", "red"):
        with pytest.raises(UsageError, match="colour"):
            rgb(wrong)
    assert len(CLASSES) == len(COLORS)


def test_patterns_differ() -> None:
    drawn = {pattern(mark, (16, 16)).tobytes() for mark in Mark}
    assert len(drawn) == len(Mark)
