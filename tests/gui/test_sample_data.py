"""File > Open Sample."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qtpy.QtCore import QTimer

from napari_xt.sample_data import make_sample, sample_folder
from napari_xt.slide_layers import pyramid_of
from xt_backend.errors import OutputError, XTError


def test_the_sample_is_drawn_once(tmp_path: Path) -> None:
    first = make_sample(tmp_path, size_px=1024)
    stamp = first.stat().st_mtime_ns
    assert make_sample(tmp_path, size_px=1024) == first
    assert first.stat().st_mtime_ns == stamp
    assert first.with_suffix(".geojson").is_file()


def test_the_menu_opens_it(
    make_napari_viewer: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_xt.sample_data.SIZE_PX", 1024)
    monkeypatch.setattr(make_sample, "__defaults__", (1024,))
    viewer = make_napari_viewer()
    (layer,) = viewer.open_sample("napari-xt", "sample-slide")
    pyramid = pyramid_of(layer)
    assert pyramid is not None
    assert pyramid.path.is_relative_to(sample_folder())
    assert pyramid.info.mpp is not None


def test_choosing_it_again_while_it_is_drawn_draws_nothing_and_says_so(
    make_napari_viewer: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import xt_backend.samples

    monkeypatch.setattr("napari_xt.sample_data.sample_folder", lambda: tmp_path)
    monkeypatch.setattr(make_sample, "__defaults__", (1024,))
    viewer = make_napari_viewer()
    write, begun, clicked_again = xt_backend.samples.write_samples, [], threading.Event()
    told: list[XTError] = []

    def slow(*args: Any) -> Any:
        begun.append(args)
        assert clicked_again.wait(60)
        return write(*args)

    def click_again() -> None:
        if begun:
            timer.stop()
            clicked_again.set()
            try:
                viewer.open_sample("napari-xt", "sample-slide")
            except XTError as error:
                told.append(error)

    monkeypatch.setattr(xt_backend.samples, "write_samples", slow)
    timer = QTimer()
    timer.timeout.connect(click_again)
    timer.start(20)
    viewer.open_sample("napari-xt", "sample-slide")
    assert len(begun) == 1
    assert "being drawn" in str(told[0])
    assert len(viewer.layers) == 1
    # Once it is there it can be opened as often as one likes.
    viewer.open_sample("napari-xt", "sample-slide")
    assert len(viewer.layers) == 2


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError):
        make_sample(tmp_path / "file", size_px=1024)
