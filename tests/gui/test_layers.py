"""From score maps to layers: values, places, colours, what the cursor reads, what is exported."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels

from napari_xt import layers as lay
from napari_xt.ask.words import headline
from napari_xt.overlay import Overlay
from napari_xt.statuses import WITHOUT_CLASS
from napari_xt.words import slide_headline
from xt_backend.keys import RegionStatus

from .maps import CLASSES, COLORS, score_map


@pytest.mark.parametrize("slide_mpp", [(0.5, 0.5), (0.25, 0.25), (0.23, 0.24), (0.7, 0.7)])
@pytest.mark.parametrize("corner", [(0, 0), (512, 256), (37, 911)])
@pytest.mark.parametrize("stride_px", [None, 50, 30])
def test_pixels_of_the_overlay_lie_on_their_regions(
    slide_mpp: tuple[float, float], corner: tuple[int, int], stride_px: int | None
) -> None:
    found = score_map(bounds_px=(*corner, 1000, 700), slide_mpp=slide_mpp, stride_px=stride_px)
    (scale_y, scale_x), (move_y, move_x) = lay.lattice_transform(found)
    for (column, row), (x0, y0, x1, y1) in zip(
        found.cells, found.lattice.boxes(found.cells), strict=True
    ):
        # The middle of the box, between pixel edges x0 and x1, in napari's world of px centres.
        wanted_x = ((x0 + x1) / 2 - 0.5) * slide_mpp[0]
        wanted_y = ((y0 + y1) / 2 - 0.5) * slide_mpp[1]
        assert abs(column * scale_x + move_x - wanted_x) <= slide_mpp[0] * 0.51
        assert abs(row * scale_y + move_y - wanted_y) <= slide_mpp[1] * 0.51
    if stride_px is None:
        np.testing.assert_allclose(
            (move_x - scale_x / 2, move_y - scale_y / 2),
            np.multiply(np.subtract(corner, 0.5), slide_mpp),
        )


def test_values_of_the_maps() -> None:
    found = score_map()
    classes, status = lay.class_map(found), lay.status_map(found)
    probabilities = lay.probability_maps(found)
    labels = found.labels()
    for index, (column, row) in enumerate(found.cells):
        assert classes[row, column] == labels[index] + 1
        wanted = {RegionStatus.READ_ERROR: lay.UNREADABLE, RegionStatus.SKIPPED: lay.NOT_DONE}
        assert status[row, column] == wanted.get(RegionStatus(found.status[index]), 0)
        np.testing.assert_array_equal(probabilities[row, column], found.probabilities[index])
    assert classes[-1, -1] == 0
    assert status[-1, -1] == 0
    assert np.isnan(probabilities[-1, -1]).all()
    np.testing.assert_array_equal(
        lay.class_map(found, context=False), found.grid(found.labels(region_only=True) + 1, 0)
    )


def test_nan_is_never_drawn_as_a_class() -> None:
    found = score_map()
    logits = found.logits.copy()
    logits[10] = (0.0, np.nan, 1.0)
    found = score_map(logits=logits)
    column, row = found.cells[10]
    assert lay.class_map(found)[row, column] == 0
    assert np.isnan(lay.probability_maps(found)[row, column]).all()


def test_colours_and_transparency() -> None:
    for data, options, kind in lay.score_map_layers(score_map()):
        layer = Labels(data, **options) if kind == "labels" else Image(data, **options)
        assert {str(unit) for unit in layer.units} == {"micrometer"}
        assert layer.blending == "translucent"
        if layer.name.startswith("xT classes"):
            for index, color in enumerate(COLORS):
                red, green, blue, alpha = (255 * layer.get_color(index + 1)).round()
                assert f"#{int(red):02X}{int(green):02X}{int(blue):02X}" == color.upper()
                assert alpha == 255
            assert layer.get_color(0) is None or layer.get_color(0)[3] == 0
        elif kind == "image":
            ramp = layer.colormap.map(np.array([0.0, 0.5, 1.0]))[:, 3]
            assert ramp[0] == 0
            assert 0 < ramp[1] < ramp[2] < 1
            assert layer.colormap.map(np.array([np.nan]))[0, 3] == 0
            assert tuple(layer.contrast_limits) == (0, 1)


def test_a_long_name_of_a_slide_leaves_the_canvas_its_width(
    qtbot: Any, make_napari_viewer: Any
) -> None:
    viewer = make_napari_viewer()
    viewer.add_image(np.zeros((64, 64, 3), np.uint8))
    controls = viewer.window._qt_viewer.controls
    before = controls.minimumSizeHint().width()
    name = "TCGA-CR-7395-01A-01-TS1.0c4b6c8a.svs"
    Overlay(viewer, score_map(name=name))
    qtbot.wait(50)
    assert controls.minimumSizeHint().width() == before


def test_names_tell_slide_and_class() -> None:
    listed = [options["name"] for _, options, _ in lay.score_map_layers(score_map())]
    assert listed == [
        *(f"xT {name} — slide.svs" for name in CLASSES),
        "xT classes — slide.svs",
        "xT status — slide.svs",
    ]


def test_metadata_can_be_exported() -> None:
    for _, options, _ in lay.score_map_layers(score_map(run_meta={"device": "cpu"})):
        facts = json.loads(json.dumps(options["metadata"]))["napari-xt"]
        assert set(facts) == {
            "model", "model_sha256", "task", "classes", "slide_mpp", "mpp_source", "lattice",
        }  # fmt: skip


def test_the_status_bar_tells_class_and_probability() -> None:
    viewer = ViewerModel()
    found = score_map()
    overlay = Overlay(viewer, found)
    row, column = 2, 3
    index = int(np.flatnonzero((found.cells == (column, row)).all(axis=1))[0])
    world = overlay.classes.data_to_world((row, column))
    status = overlay.classes.get_status(
        world, view_direction=None, dims_displayed=[0, 1], world=True
    )
    best = int(found.labels()[index])
    assert CLASSES[best] in status["value"]
    assert f"{found.probabilities[index][best]:.0%}" in status["value"]
    own = int(found.labels(region_only=True)[index])
    changed = "" if own == best else f"{CLASSES[own]} "
    share = found.region_only_probabilities[index][own]
    assert f"(alone {changed}{share:.0%})" in status["value"]
    for place, words in {3: "could not be read", 4: "not scored"}.items():
        column, row = found.cells[place]
        world = overlay.classes.data_to_world((row, column))
        assert words in overlay.classes.get_status(world, world=True)["value"]
    outside = overlay.classes.get_status((-1e4, -1e4), world=True)
    assert "%" not in outside["value"]


@pytest.mark.parametrize("status", [one for one in RegionStatus if not one.scored])
def test_a_region_without_a_class_says_why_wherever_it_is_asked(status: RegionStatus) -> None:
    found = score_map()
    found.status[3] = status
    words = WITHOUT_CLASS[status]
    assert headline(found, 3) == f"No prediction: {words}"
    overlay = Overlay(ViewerModel(), found)
    column, row = found.cells[3]
    world = overlay.classes.data_to_world((row, column))
    assert overlay.classes.get_status(world, world=True)["value"].endswith(f"; {words}")
    labels, options, _ = lay.score_map_layers(found)[-1]
    place = options["features"]["index"].index(labels[row, column])
    assert options["features"]["status"][place] == words


def test_words_name_the_class_that_the_map_shows() -> None:
    # Every region: normal 60 %, tumour 30 % with context; nearly all normal alone.
    logits = np.tile(np.log(np.float32([0.6, 0.1, 0.3])), (69, 1))
    alone = np.tile(np.log(np.float32([0.9, 0.08, 0.02])), (69, 1))
    values = {"logits": logits, "region_only_logits": alone, "status": np.zeros(69, np.uint8)}
    for thresholds, tumour in (({}, False), ({"tumour": 0.25}, True)):
        overlay = Overlay(ViewerModel(), score_map(**values, thresholds=thresholds))
        assert overlay.classes.data[0, 0] == (3 if tumour else 1)
        reading = overlay.classes.reading_at(overlay.classes.data_to_world((0, 0)))
        assert reading is not None
        words = reading.in_words(context=True)
        if tumour:
            assert words == "tumour 30%, over its threshold of 25% (alone normal 90%)"
        else:
            assert words == "normal 60% (alone 90%)"
        assert reading.in_words(context=False).startswith("normal 90% (with context ")


def test_words_say_where_nothing_was_looked_at() -> None:
    status = np.full(69, RegionStatus.SCREENED_OUT, np.uint8)
    nothing = np.full((69, 3), np.nan, np.float32)
    found = score_map(status=status, logits=nothing, region_only_logits=nothing)
    overlay = Overlay(ViewerModel(), found)
    reading = overlay.classes.reading_at(overlay.classes.data_to_world((0, 0)))
    assert reading is not None
    assert reading.in_words(context=True) == "not looked at"


def test_the_headline_names_the_class_that_was_decided() -> None:
    assert slide_headline(score_map()) == ""
    logits = np.log(np.float32([0.6, 0.1, 0.3]))
    found = score_map(task="slide", slide_logits=logits)
    assert slide_headline(found) == "The slide as a whole: normal (60%)."
    found = score_map(task="slide", slide_logits=logits, thresholds={"tumour": 0.25})
    assert slide_headline(found) == "The slide as a whole: tumour (30%)."
    found = score_map(task="slide", slide_logits=np.float32([0, np.nan, 1]))
    assert slide_headline(found) == "The slide as a whole: no prediction."


def test_updating_keeps_layers_and_what_the_user_set() -> None:
    viewer = ViewerModel()
    overlay = Overlay(viewer, score_map())
    before = list(viewer.layers)
    overlay.classes.opacity = 0.2
    overlay.probabilities[1].visible = True
    done = score_map(status=np.zeros(69, np.uint8), logits=np.ones((69, 3), np.float32))
    overlay.update(done)
    assert list(viewer.layers) == before
    assert overlay.classes.opacity == 0.2
    assert overlay.probabilities[1].visible
    np.testing.assert_array_equal(overlay.classes.data, lay.class_map(done))
    assert not overlay.status.visible


def test_layers_are_made_one_by_one_where_there_is_time_in_between() -> None:
    at_once, viewer = ViewerModel(), ViewerModel()
    Overlay(at_once, score_map())
    turns: list[Callable[[], None]] = []
    overlay = Overlay(viewer, score_map(), later=turns.append)
    assert [layer.name for layer in viewer.layers] == ["xT classes — slide.svs"]
    assert not overlay.complete
    # What the run and the user did meanwhile is in the layers that come later.
    done = score_map(status=np.zeros(69, np.uint8), logits=np.ones((69, 3), np.float32))
    overlay.update(done)
    overlay.set_context(False)
    own = viewer.add_points()
    for count, turn in enumerate(turns, start=2):
        turn()
        assert len(viewer.layers) == count + 1
        assert viewer.layers.selection.active is own
    assert overlay.complete
    names = [layer.name for layer in viewer.layers if layer is not own]
    assert names == [layer.name for layer in at_once.layers]
    maps = lay.probability_maps(done, context=False)
    for index, layer in enumerate(overlay.probabilities):
        np.testing.assert_array_equal(layer.data, maps[..., index])
    assert not overlay.layers[-1].visible  # nothing to mark any more
    # Taken away before its turn, no layer comes.
    early: list[Callable[[], None]] = []
    overlay = Overlay(ViewerModel(), score_map(), later=early.append)
    overlay.remove()
    for turn in early:
        turn()
    assert not overlay.layers


def test_the_class_map_is_saved_and_copied_like_any_labels_layer(tmp_path: Path) -> None:
    overlay = Overlay(ViewerModel(), score_map())
    data, _, kind = overlay.classes.as_layer_data_tuple()
    assert kind == "labels"
    np.testing.assert_array_equal(data, overlay.classes.data)


def test_results_can_be_dropped_onto_napari(
    make_napari_viewer: Callable[[], Any], tmp_path: Path
) -> None:
    found = score_map()
    found.save(tmp_path / "slide.run.h5")
    viewer = make_napari_viewer()
    viewer.open(str(tmp_path / "slide.run.h5"), plugin="napari-xt")
    (classes,) = [layer for layer in viewer.layers if layer.name.startswith("xT classes")]
    np.testing.assert_array_equal(classes.data, lay.class_map(found))


def test_shares_are_those_of_the_panel() -> None:
    found = score_map()
    tissue = np.linspace(0.1, 1.0, len(found.cells)).astype(np.float32)
    found = dataclasses.replace(found, tissue=tissue)
    for context in (True, False):
        shares = found.fractions(region_only=not context).values()
        told = lay.class_features(found, context=context)["share"]
        assert told == [None, *(f"{share:.1%} of the scored tissue" for share in shares)]
    status = found.status.copy()
    status[0] = RegionStatus.SCREENED_OUT
    screened = lay.class_features(dataclasses.replace(found, status=status))["share"]
    assert screened[1].endswith("% of the tissue, scored or screened out")
    nothing = score_map(logits=np.full_like(found.logits, np.nan))
    assert lay.class_features(nothing)["share"][1:] == [""] * len(CLASSES)
