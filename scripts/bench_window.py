#!/usr/bin/env python3
"""How quickly the window answers on a large slide, beside what it is meant to reach.

    scripts/bench_window.py [--seconds S] [--size W H] [--slide SLIDE --model MODEL] [--json]

Makes a slide of 40,013 x 30,011 px with the grain of a scanner (half a minute, 0.3 GB, removed at
the end), opens it in a napari window of 1500 x 900 and looks at it as a person would. Needs a
display (`xvfb-run -a` makes one), and a machine without other work: everything here is a time.
At last it corrects a sample slide, or SLIDE, which MODEL judges: 25 neighbouring regions of one
class are painted as another one, and trained.

A picture counts when it is complete and painted: no tile of it is late, and its pixels could be
read back from the canvas; a step of a pan when it is painted. Painting by the processor (software
OpenGL, as under Xvfb) takes longer than all else in it. `napari-xt bench questions` measures
what-if and influence.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from bench_window_training import train
from support.score_maps import patchy_map

from napari_xt.display import require_display
from napari_xt.overlay import Overlay
from napari_xt.slide_layers import pyramid_of, watch_viewer
from napari_xt.world import scene_of
from xt_backend.errors import XTError
from xt_backend.keys import PRODUCT, RegionStatus
from xt_backend.samples import write_samples
from xt_backend.samples.pyramid import write_pyramid
from xt_backend.slides import Lattice
from xt_backend.store import ScoreMap

SIZE_PX = (40_013, 30_011)
WINDOW_PX = (1500, 900)
MPP = 0.5
REGION_PX = 224
STRIP_PX = 2048
PAN_SHARE = 0.1
"""Of the canvas' width, from one picture to the next."""
SAMPLE_PX = 3072
SAMPLE_SEED = 5
N_JUMPS = 15
N_UPDATES = 25
UPDATES_HZ = 5
LATE_S = 30.0

Pixels = np.ndarray[Any, Any]
Row = dict[str, Any]


def large_slide(path: Path, size_px: tuple[int, int]) -> Path:
    """A pyramid of JPEG tiles (levels 1, 4, 16, 64) that cost as much to decode as a scanner's."""
    width, height = size_px
    rng = np.random.default_rng(0)
    coarse = rng.integers(120, 235, (STRIP_PX // 32, STRIP_PX // 32, 3))
    patch = np.kron(coarse, np.ones((32, 32, 1))) + rng.normal(0, 4, (STRIP_PX, STRIP_PX, 1))
    patch = np.clip(patch, 0, 255).astype(np.uint8)
    wide = np.tile(patch, (1, -(-width // STRIP_PX) + 1, 1))

    def strips() -> Iterator[Pixels]:
        for number, top in enumerate(range(0, height, STRIP_PX)):
            left = number * 677 % STRIP_PX
            yield wide[: min(STRIP_PX, height - top), left : left + width]

    write_pyramid(path, strips(), width, height, mpp=(MPP, MPP))
    return path


def large_map(size_px: tuple[int, int]) -> ScoreMap:
    """A prediction of all regions of the slide, as it grows."""
    lattice = Lattice.for_bounds((0, 0, *size_px), (MPP, MPP), MPP, REGION_PX)
    return patchy_map(lattice, slide_name="large.tiff", partial=True)


class Took(NamedTuple):
    """Seconds that a change took.

    Attributes:
        ready: Until napari had the pixels to paint.
        painted: Until they were painted, with stand-ins for tiles that are late.
        whole: Until the picture was complete.
    """

    ready: float
    painted: float
    whole: float


class Window:
    """A napari window, and how long it takes to show something.

    Args:
        viewer: The window.
    """

    def __init__(self, viewer: Any) -> None:
        from qtpy.QtWidgets import QApplication

        self.viewer = viewer
        self._live: Callable[[], None] = QApplication.processEvents
        viewer.window.resize(*WINDOW_PX)
        self.settle()

    def settle(self) -> None:
        """Let it lay itself out."""
        for _ in range(10):
            self._live()
            time.sleep(0.02)

    def picture(self) -> Pixels:
        """What it shows now, painted anew, once: going through Qt's events would paint it twice."""
        return np.asarray(self.viewer.screenshot(canvas_only=True, flash=False))

    def look(self, change: Callable[[], Any]) -> Took:
        """Make a change, and wait until the picture is complete.

        Raises:
            SystemExit: It does not come.
        """
        began = time.perf_counter()
        change()
        ready = time.perf_counter() - began
        self.picture()
        painted = whole = time.perf_counter() - began
        while self._late():
            if whole > LATE_S:
                raise SystemExit(f"the picture is not complete after {LATE_S:g} s")
            time.sleep(0.002)
            self._live()
            self.picture()
            whole = time.perf_counter() - began
        self._live()
        return Took(ready, painted, whole)

    def _late(self) -> bool:
        pyramids = filter(None, map(pyramid_of, self.viewer.layers))
        refresher = watch_viewer(self.viewer)
        return any(one.reading for one in pyramids) or (refresher is not None and refresher.waiting)


def measure(
    slide: Path, size_px: tuple[int, int], seconds: float, corrected: Path, model: str
) -> list[Row]:
    """Rows of the table: what, how much of which unit, and at most how much it shall be.

    Args:
        slide: Of `large_slide`.
        size_px: (width, height) of it.
        seconds: How long to pan.
        corrected: Slide that is corrected.
        model: That judges it.
    """
    import napari

    viewer = napari.Viewer()
    try:
        rows = _measure(Window(viewer), slide, size_px, seconds)
        taken, note = train(viewer, corrected, model)
        return [*rows, _row("train on one slide", "s", taken, 30, note)]
    finally:
        viewer.close()


def _measure(window: Window, slide: Path, size_px: tuple[int, int], seconds: float) -> list[Row]:
    viewer = window.viewer
    before = _rss_mb()
    first = window.look(lambda: viewer.open(str(slide), plugin=PRODUCT))
    rows = [_row("first paint", "s", first.whole, 1.5, f"something after {first.painted:.2f} s")]
    camera, (width, height) = scene_of(viewer).camera, size_px
    (layer,) = (layer for layer in viewer.layers if pyramid_of(layer) is not None)
    far = camera.zoom
    pixel = 1 / MPP
    """Canvas pixels per um at full resolution."""

    def jump(x: float, y: float) -> None:
        camera.center = tuple(layer.data_to_world((y * height, x * width)))
        camera.zoom = pixel

    places = np.random.default_rng(1).uniform(0.1, 0.9, (N_JUMPS, 2))
    jumps = []
    for x, y in places.tolist():
        camera.zoom = far
        window.settle()
        jumps.append(window.look(lambda x=x, y=y: jump(x, y)).whole)
    rows.append(
        _row(
            "jump to full resolution",
            "s",
            statistics.median(jumps),
            0.25,
            f"longest {max(jumps):.2f} s",
        )
    )
    steps = list(_pan(window, layer, size_px, seconds))
    pans = [1e3 * step.painted for step in steps]
    of_it = f"of them {1e3 * statistics.median(step.ready for step in steps):.0f} before painting"
    most = f"95 % below {float(np.percentile(pans, 95)):.0f} ms"
    rows.append(_row("pan", "ms", statistics.median(pans), 40, f"{of_it}; {most}"))
    used = f"{before:.0f} MB before the slide"
    rows.append(_row(f"memory after {seconds:g} s of it", "MB", _rss_mb(), 900, used))
    camera.zoom = far
    camera.center = tuple(layer.data_to_world((height / 2, width / 2)))
    window.look(lambda: None)
    updates = list(_update(window, layer, large_map(size_px)))
    longest = f"longest {1e3 * max(updates):.0f} ms"
    rows.append(_row("overlay update", "ms", 1e3 * statistics.median(updates), 100, longest))
    return rows


def _pan(window: Window, layer: Any, size_px: tuple[int, int], seconds: float) -> Iterator[Took]:
    """How long each step of a walk over the slide takes: to the right, down, and back."""
    camera = scene_of(window.viewer).camera
    width, height = (MPP * side for side in size_px)
    step = PAN_SHARE * window.picture().shape[1] / camera.zoom
    y, x = layer.data_to_world((size_px[1] * 0.1, size_px[0] * 0.1))
    ahead, began = step, time.perf_counter()
    while time.perf_counter() - began < seconds:
        x += ahead
        if not 0.1 * width <= x <= 0.9 * width:
            ahead, x, y = -ahead, x - ahead, (y + step) % (0.9 * height)

        def move(place: tuple[float, float] = (y, x)) -> None:
            camera.center = place

        yield window.look(move)


def _update(window: Window, slide: Any, score_map: ScoreMap) -> Iterator[float]:
    """Seconds that the window is busy with each newer state of a growing prediction."""

    def as_far_as(share: float) -> ScoreMap:
        status = score_map.status.copy()
        status[int(share * len(status)) :] = RegionStatus.SKIPPED
        return replace(score_map, status=status)

    overlay = Overlay(window.viewer, as_far_as(0), slide=slide)
    window.picture()
    for number in range(N_UPDATES):
        newer = as_far_as((number + 1) / N_UPDATES)
        began = time.perf_counter()
        overlay.update(newer)
        window.picture()
        taken = time.perf_counter() - began
        yield taken
        time.sleep(max(0.0, 1 / UPDATES_HZ - taken))


def _rss_mb() -> float:
    return psutil.Process().memory_info().rss / 1e6


def _row(what: str, unit: str, value: float, at_most: float, note: str) -> Row:
    return {"what": what, "unit": unit, "value": value, "at_most": at_most, "note": note}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to pan")
    parser.add_argument("--size", type=int, nargs=2, default=SIZE_PX, metavar=("W", "H"))
    parser.add_argument("--slide", type=Path, help="what to correct")
    parser.add_argument("--model", default="context-demo", help="what judges it")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    try:
        require_display()
    except XTError as error:
        parser.error(str(error))
    with tempfile.TemporaryDirectory(prefix="bench-window-") as name:
        folder, size = Path(name), tuple(arguments.size)
        # What an earlier run has kept shall not help, and nobody's settings are changed. Shaders
        # that the graphics driver has compiled stay: only the first window ever lacks them.
        for kind in ("CONFIG", "DATA", "STATE"):
            os.environ[f"XDG_{kind}_HOME"] = str(folder / kind)
        os.environ["NAPARI_XT_CACHE"] = str(folder / "regions")
        corrected = arguments.slide
        if corrected is None:
            (sample,) = write_samples(folder / "sample", 1, SAMPLE_PX, SAMPLE_SEED)
            corrected = sample.slide
        large = large_slide(folder / "large.tiff", size)
        rows = measure(large, size, arguments.seconds, corrected, arguments.model)
    if arguments.json:
        print(json.dumps({"rows": rows}))
        return
    for row in rows:
        value = f"{row['value']:.2f}" if row["unit"] == "s" else f"{row['value']:.0f}"
        print(
            f"{row['what']:<26} {value:>6} {row['unit']:<3} (at most {row['at_most']:g}); "
            f"{row['note']}"
        )


if __name__ == "__main__":
    main()
