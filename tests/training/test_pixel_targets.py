from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from xt_backend.errors import AnnotationError
from xt_backend.slides import Lattice, Objects, Shape, read_objects
from xt_backend.training.pixel_judging import PointsJudged, fit_point_thresholds
from xt_backend.training.pixel_losses import heat_loss, mask_loss
from xt_backend.training.pixel_metrics import mean_dice, measure_masks, measure_points
from xt_backend.training.pixel_targets import IGNORED, HeatTargets, MaskTargets

# Bounds that do not begin at 0, a slide finer than the model, and an edge inside a region.
LATTICE = Lattice((100, 40), (300, 250), 32, 32, 1.0, (0.5, 0.5))
CELLS = LATTICE.all_cells()


def box(name: str, x0: float, y0: float, x1: float, y1: float) -> Shape:
    return Shape(name, shapely.box(x0, y0, x1, y1))


def test_masks_say_what_lies_at_the_middle_of_every_pixel() -> None:
    """Against a picture of the whole slide drawn px by px, 8 level-0 px per mask px."""
    hole = shapely.box(120, 60, 240, 200).difference(shapely.box(150, 90, 170, 110))
    shapes = [Shape("a", hole), box("b", 200, 150, 333, 420), box("other", 100, 40, 400, 290)]
    targets = MaskTargets(LATTICE, shapes, {"a": 0, "b": 1}, np.ones(len(CELLS), np.float32))
    masks = targets.of(CELLS)
    assert masks.shape == (len(CELLS), 8, 8)
    for (col, row), mask in zip(CELLS, masks, strict=True):
        for i in range(8):
            for j in range(8):
                x, y = 100 + col * 64 + (j + 0.5) * 8, 40 + row * 64 + (i + 0.5) * 8
                expected = IGNORED
                if shapely.intersects_xy(hole, x, y):
                    expected = 0
                if 200 <= x <= 333 and 150 <= y <= 420:
                    expected = 1
                if x >= 400 or y >= 290:
                    expected = IGNORED
                assert mask[i, j] == expected
    assert targets.of(CELLS[:0]).shape == (0, 8, 8)


def objects(places: list[tuple[float, float]], **changes: object) -> Objects:
    values = {
        "places_px": np.array(places, np.float64).reshape(-1, 2),
        "names": ("cell",) * len(places),
        "sides_px": np.zeros(len(places)),
        "searched": (),
    }
    return Objects(**{**values, **changes})  # type: ignore[arg-type]


def test_heat_stands_at_the_objects_and_reaches_into_the_next_region() -> None:
    # The second one lies 1 px left of the border between the columns 0 and 1.
    marked = objects([(110.0, 50.0), (163.0, 60.0)])
    targets = HeatTargets(LATTICE, CELLS, marked, {"cell": 0}, radius_um=12.0)
    heat = targets.of(CELLS[:2])
    assert heat.shape == (2, 1, 8, 8)
    assert heat[0, 0, 1, 1] == 1.0
    assert heat[0, 0, 2, 7] == 1.0
    # sigma is a third of 12 um: 4 um, one pixel of the heat map.
    assert heat[0, 0, 1, 2] == pytest.approx(np.exp(-0.5))
    assert heat[1, 0, 2, 0] == pytest.approx(np.exp(-0.5))
    assert (heat == 1.0).sum() == 2
    assert targets.weights[:3].tolist() == [2, 0, 0]
    assert targets.anchors.sum() == 1
    assert np.isnan(targets.of(CELLS[4:5])[0, 0]).any()  # beyond the slide's edge
    none = HeatTargets(LATTICE, CELLS, objects([]), {"cell": 0}, radius_um=12.0)
    assert none.of(CELLS[:1]).max() == 0


def test_only_searched_places_count() -> None:
    area = shapely.box(100, 40, 132, 400)
    marked = objects([(110.0, 50.0), (150.0, 50.0)], searched=(area,))
    targets = HeatTargets(LATTICE, CELLS, marked, {"cell": 0}, radius_um=12.0)
    assert len(targets.place_kinds) == 1
    heat = targets.of(CELLS[:2])
    assert np.isfinite(heat[0, 0]).sum() == 32
    assert np.isnan(heat[1]).all()
    assert targets.shares[:2].tolist() == [0.5, 0.0]
    assert targets.within(np.array([110.0, 150.0]), np.array([50.0, 50.0])).tolist() == [
        True,
        False,
    ]


def test_large_outlines_are_no_objects() -> None:
    marked = objects([(110.0, 50.0)], sides_px=np.array([900.0]))
    with pytest.raises(AnnotationError, match="450 um long"):
        HeatTargets(LATTICE, CELLS, marked, {"cell": 0}, radius_um=12.0)
    HeatTargets(LATTICE, CELLS, marked, {"other": 0}, radius_um=12.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type": "FeatureCollection", "features": []}', "marks no object"),
        ('{"type": "Feature", "geometry": {"type": "Point", "coordinates": [1]}}', "not a list"),
        ('{"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}}', "no class"),
        ('{"type": "Feature", "geometry": {"type": "MultiPoint", "coordinates": 3}}', "no list"),
        ("[3]", "feature 1: it is not a GeoJSON feature"),
        ("{", "is not valid JSON"),
    ],
)
def test_files_without_objects_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.geojson"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(AnnotationError, match=message):
        read_objects(path)


def test_mask_loss_is_a_mean_over_the_pixels_of_a_region() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 4, generator=generator)
    labels = torch.randint(0, 3, (2, 4, 4), generator=generator)
    weights = torch.tensor([1.0, 2.0, 0.5])
    labels[0, 0] = IGNORED
    expected = 0.0
    for n in range(2):
        for i in range(4):
            for j in range(4):
                label = int(labels[n, i, j])
                if label != IGNORED:
                    log = logits[n, :, i, j].log_softmax(dim=0)
                    expected -= float(weights[label] * log[label]) / 16
    assert mask_loss(logits, labels, weights).item() == pytest.approx(expected, rel=1e-5)
    assert mask_loss(logits, torch.full_like(labels, IGNORED), weights).item() == 0.0


def test_heat_loss_looks_at_peaks_and_passes_over_the_unknown() -> None:
    logits = torch.tensor([[[[2.0, -1.0, 0.5, 7.0]]]], requires_grad=True)
    heat = torch.tensor([[[[1.0, 0.0, 0.6, torch.nan]]]])
    p = logits.detach().sigmoid()[0, 0, 0]
    cross = binary_cross_entropy_with_logits(
        logits.detach()[0, 0, 0, :3], torch.tensor([1.0, 0.0, 0.0]), reduction="none"
    )
    expected = (1 - p[0]) ** 2 * cross[0] + p[1] ** 2 * cross[1] + 0.4**4 * p[2] ** 2 * cross[2]
    loss = heat_loss(logits, heat)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 0, 0, 3] == 0


def test_dice_and_iou_of_known_counts() -> None:
    counts = np.zeros((1, 2, 3), np.int64)
    counts[0] = [[6, 2, 1], [3, 8, 0]]
    found = measure_masks(("a", "b"), [counts], n_bootstrap=10)
    assert found.dice["a"].value == pytest.approx(12 / (9 + 9))
    assert found.iou["a"].value == pytest.approx(6 / (9 + 9 - 6))
    assert found.dice["b"].value == pytest.approx(16 / (11 + 10))
    assert found.accuracy.value == pytest.approx(14 / 20)
    assert (found.n_px, found.n_failed_px, found.resampled) == (20, 1, "regions")
    assert mean_dice(counts[0].astype(float)) == pytest.approx(found.mean_dice.value)
    nothing = measure_masks(("a", "b"), [])
    assert np.isnan(nothing.mean_dice.value)


def test_intervals_hold_the_value_and_shrink_with_more_slides() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for n in (6, 60):
        slides = [rng.integers(1, 50, (3, 2, 3)) for _ in range(n)]
        dice = measure_masks(("a", "b"), slides, n_bootstrap=200).mean_dice
        assert dice.low < dice.value < dice.high
        widths.append(dice.high - dice.low)
    assert widths[1] < widths[0] / 2


def test_points_are_counted_from_the_threshold_on() -> None:
    judged = PointsJudged(
        scores=np.array([0.9, 0.8, 0.6, 0.4, 0.1], np.float32),
        kinds=np.array([0, 0, 1, 0, 0], np.int32),
        hit=np.array([True, True, False, True, False]),
        n_objects=np.array([4, 1]),
        area_um2=1e6,
        distance_um=4.0,
    )
    counts = judged.counts([0.5, 0.5])
    assert counts.tolist() == [[2, 2, 4], [0, 1, 1]]
    found = measure_points(("x", "y"), counts[None], 8.0)
    assert found.precision["x"].value == 1.0
    assert found.recall["x"].value == 0.5
    assert found.f1["x"].value == pytest.approx(2 / 3)
    assert found.precision["y"].value == 0.0
    assert found.all_recall.value == pytest.approx(2 / 5)
    assert (found.n_points, found.n_objects) == ({"x": 2, "y": 1}, {"x": 4, "y": 1})
    # Three of four are found at 0.4; what comes below would be wrong.
    thresholds = fit_point_thresholds([judged], ("x", "y"))
    assert thresholds == {"x": pytest.approx(0.25)}


def test_a_single_unit_has_no_interval() -> None:
    """Drawn again, it would always be itself: certain beyond all measure."""
    found = measure_masks(("a", "b"), [np.array([[[90, 10, 0], [20, 80, 0]]])], n_bootstrap=20)
    assert found.accuracy.value == 0.85
    assert np.isnan([found.accuracy.low, found.accuracy.high]).all()
