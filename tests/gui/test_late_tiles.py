"""Reads that would keep the window waiting: stand-ins first, the truth when it has come."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_xt.pyramid import Pyramid
from napari_xt.slide_layers import pyramid_of

from .conftest import write_slide


class Gate:
    """Holds back reads of one level until it is opened."""

    def __init__(self, pyramid: Pyramid, level: int) -> None:
        self.open = threading.Event()
        slide = pyramid._slide()
        read = slide.read_level

        def held_back(asked: int, *place: int) -> Any:
            if asked == level:
                self.open.wait(60)
            return read(asked, *place)

        slide.read_level = held_back  # type: ignore[method-assign]


def test_a_late_tile_is_shown_more_coarsely_and_then_told(tmp_path: Path, noisy_image: Any) -> None:
    flat = np.full_like(noisy_image, 90)
    pyramid = Pyramid(write_slide(tmp_path / "s.tiff", flat))
    arrived = threading.Event()
    pyramid.patience_s, pyramid.on_arrival = 0.05, arrived.set
    pyramid.patience_s = None
    pyramid.levels[1][:]
    pyramid.patience_s = 0.05
    gate = Gate(pyramid, 0)
    np.testing.assert_array_equal(pyramid.levels[0][:600, :600], flat[:600, :600])  # enlarged
    assert not arrived.is_set()
    gate.open.set()
    assert arrived.wait(60)
    np.testing.assert_array_equal(pyramid.levels[0][:600, :600], flat[:600, :600])


def test_without_a_coarser_level_it_is_pale(tmp_path: Path, noisy_image: Any) -> None:
    pyramid = Pyramid(write_slide(tmp_path / "s.tiff", noisy_image))
    arrived = threading.Event()
    pyramid.patience_s, pyramid.on_arrival = 0.05, arrived.set
    gate = Gate(pyramid, 0)
    assert len(np.unique(pyramid.levels[0][:100, :100])) == 1
    gate.open.set()
    assert arrived.wait(60)
    np.testing.assert_array_equal(pyramid.levels[0][:100, :100], noisy_image[:100, :100])


def test_without_a_viewer_reads_wait(tmp_path: Path, noisy_image: Any) -> None:
    pyramid = Pyramid(write_slide(tmp_path / "s.tiff", noisy_image))
    gate = Gate(pyramid, 0)
    threading.Timer(0.5, gate.open.set).start()
    np.testing.assert_array_equal(pyramid.levels[0][:100, :100], noisy_image[:100, :100])


def test_an_overview_that_takes_long_fills_in(
    qtbot: Any,
    make_napari_viewer: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    # One level of 4096 px: the overview is made of 64 tiles, each held back until it may come.
    image = np.zeros((2048, 4096, 3), np.uint8)
    image[:, 2048:] = 180
    path = write_slide(tmp_path / "big.tiff", image, levels=1)
    may_come = threading.Event()
    decode = Pyramid._read_native

    def slow(self: Pyramid, *place: int) -> Any:
        may_come.wait(60)
        return decode(self, *place)

    monkeypatch.setattr(Pyramid, "_read_native", slow)
    viewer = make_napari_viewer()
    (layer,) = viewer.open(str(path), plugin="napari-xt")
    pyramid = pyramid_of(layer)
    assert pyramid is not None
    assert layer.data_level == len(pyramid.levels) - 1
    shown = lambda: layer._slice.image.view  # noqa: E731
    assert (shown() > 200).all()  # pale: opened without waiting
    may_come.set()
    qtbot.waitUntil(lambda: (shown()[:, 1024:] == 180).all(), timeout=60_000)
    assert (shown()[:, :1024] == 0).all()
    assert pyramid.levels[-1][5, 5, 0] == 0
