"""What napari reads about the plugin, and what that costs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import npe2
import pytest
from qtpy.QtWidgets import QLabel

from xt_backend.keys import RESEARCH_USE

PLUGIN = "napari-xt"


@pytest.fixture
def manifest() -> npe2.PluginManifest:
    return npe2.PluginManifest.from_distribution(PLUGIN)


def test_every_command_can_be_imported(manifest: npe2.PluginManifest) -> None:
    manifest.validate_imports()
    assert manifest.name == PLUGIN
    assert {command.id for command in manifest.contributions.commands or []} == {
        "napari-xt.read_slide",
        "napari-xt.read_result",
        "napari-xt.run",
        "napari-xt.sample_slide",
    }


def test_slide_files_and_folders_reach_the_reader(manifest: npe2.PluginManifest) -> None:
    (slides,) = [
        reader
        for reader in manifest.contributions.readers or []
        if reader.command == "napari-xt.read_slide"
    ]
    assert slides.accepts_directories
    ends = "svs ndpi scn mrxs bif vms vmu svslide tif tiff dcm czi"
    assert set(slides.filename_patterns) == {f"*.{end}" for end in ends.split()}


def test_discovery_loads_neither_torch_nor_openslide_nor_qt() -> None:
    code = (
        "import sys, npe2\n"
        "manager = npe2.PluginManager.instance()\n"
        "manager.discover(include_npe1=False)\n"
        f"assert manager.get_manifest({PLUGIN!r})\n"
        "import napari_xt, napari_xt.reader\n"
        "napari_xt.reader.get_reader('picture.png')\n"
        "heavy = {'torch', 'timm', 'openslide', 'qtpy', 'PySide6', 'napari', 'h5py', 'shapely'}\n"
        "print(*(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_the_dock_opens_from_the_menu_and_says_it_is_for_research(
    make_napari_viewer: Callable[[], Any],
) -> None:
    viewer = make_napari_viewer()
    dock, panel = viewer.window.add_plugin_dock_widget(PLUGIN, "Run xT")
    assert RESEARCH_USE in [label.text() for label in panel.findChildren(QLabel)]
    assert not panel.run_button.isEnabled()
    assert not panel.cancel_button.isEnabled()
    assert panel.run_button.text() == "Run xT"
    assert panel.cancel_button.text() == "Cancel"
    again, same = viewer.window.add_plugin_dock_widget(PLUGIN, "Run xT")
    assert (again, same) == (dock, panel)


def test_the_layers_menu_offers_it(make_napari_viewer: Callable[[], Any]) -> None:
    make_napari_viewer()
    from napari._app_model import get_app_model

    listed = get_app_model().menus.get_menu("napari/layers/classify")
    assert "napari-xt.run" in [item.command.id for item in listed]


def test_every_control_explains_itself(make_napari_viewer: Callable[[], Any]) -> None:
    viewer = make_napari_viewer()
    _, panel = viewer.window.add_plugin_dock_widget(PLUGIN, "Run xT")
    form = panel.form
    controls = [form.slide, form.mpp, form.model, form.model_file, form.area, form.draw]
    controls += [form.device, form.upsample, panel.run_button, panel.cancel_button]
    for control in [*controls, panel.results.context]:
        assert len(control.toolTip()) > 10
    assert [form.device.itemText(index) for index in range(form.device.count())] == [
        "auto", "cpu", "cuda", "mps",
    ]  # fmt: skip
