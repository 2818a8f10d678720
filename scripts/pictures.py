"""Takes the pictures of the guide from the running window; see scripts/screenshots.

Usage: pictures.py SAMPLE OUT [SECTION] [--theme THEME]

The questions need a model that looks at the surroundings, so they are asked of the sample slide.
The other pages are shown on a real section of breast where one is given, else on the sample slide.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QFileDialog

from napari_xt.ask.flight import fly_to
from napari_xt.view import open_view
from napari_xt.world import look_at_first_slide

WIDTH_PX, HEIGHT_PX = 1500, 900
PATIENCE_S = 900
A_MOMENT_MS = 1500
COLORS = 255
PATCH_PX = 1600
"""Side of the picture that another plugin opens."""


class Window:
    """A window on one slide, run with one model.

    Args:
        slide: Slide file.
        model: Name of a model.
        out: Folder of the pictures.
        theme: napari's theme.
    """

    def __init__(self, slide: Path, model: str, out: Path, theme: str) -> None:
        self.out, self.slide = out, slide
        self.viewer = open_view(slide)
        self.viewer.theme = theme
        self.viewer.window.resize(WIDTH_PX, HEIGHT_PX)
        (self.panel,) = self.viewer.window.dock_widgets.values()
        QTest.qWait(A_MOMENT_MS)
        form = self.panel.form
        form.model.setCurrentIndex(form.model.findData(model))
        self.wait(lambda: "Runs on" in self.panel.plan.text())
        self.panel.run_button.click()
        self.wait_for_run()
        look_at_first_slide(self.viewer)

    def wait(self, sight: Callable[[], bool]) -> None:
        """Wait until something is to be seen."""
        for _ in range(PATIENCE_S * 10):
            if sight():
                return
            QTest.qWait(100)
        raise TimeoutError(f"{self.slide.name}: not seen within {PATIENCE_S} s")

    def wait_for_run(self) -> None:
        """Wait until a run has ended and all of its layers are there."""
        panel = self.panel
        self.wait(lambda: not panel.session.running and panel.chosen.complete)
        self.wait(lambda: panel.overlay.complete)

    def turn_to(self, title: str) -> Any:
        """Show a page of the panel."""
        self.panel.pages.turn_to(self.panel.pages.pages[title])
        return self.panel.pages.current

    def take(self, name: str) -> None:
        """Save the window as it is; few colours make a small file."""
        QTest.qWait(A_MOMENT_MS)
        path = self.out / name
        self.viewer.screenshot(str(path), canvas_only=False, flash=False)
        with Image.open(path) as shot:
            # Else rare colours, such as those of a legend, are merged with others.
            how = {"method": Image.Quantize.FASTOCTREE, "dither": Image.Dither.NONE}
            small = shot.convert("RGB").quantize(COLORS, **how)
        small.save(path, optimize=True)
        print(path, f"{path.stat().st_size / 1e3:.0f} kB", flush=True)


def ask(window: Window) -> None:
    """All three questions about a region of the stroma beside a nest."""
    panel, page = window.panel, window.turn_to("Ask")
    score_map = panel.chosen.score_map
    reactive, nest = (score_map.classes.index(name) for name in ("reactive", "nest"))
    middle = score_map.cells[(score_map.labels() == nest).nonzero()[0][0]]
    distance = abs(score_map.cells - middle).max(axis=1)
    page.choose(int((score_map.probabilities[:, reactive] * (distance == 2)).argmax()))
    page.form.pick.setCurrentIndex(page.form.pick.findText("Most certain: reactive"))
    page.form.look.click()
    window.wait(lambda: page.known.influence is not None)
    window.take("ask-influence.png")
    page.form.shows.setCurrentIndex(1)
    window.take("ask-change.png")
    page.form.shows.setCurrentIndex(0)
    page.form.paint.click()
    layer = window.viewer.layers.selection.active
    columns, lines = score_map.cells[distance <= 1].T
    layer.data[lines, columns] = 1
    layer.refresh()
    page.form.what_if.click()
    window.wait(lambda: panel.chosen.result.instead)
    window.take("ask-what-if.png")


def correct(window: Window) -> None:
    """A patch of one class is painted as another one, and trained: where the tissue ends."""
    panel, page = window.panel, window.turn_to("Correct")
    score_map = panel.chosen.score_map
    wrong = score_map.classes.index("tumour" if "tumour" in score_map.classes else "reactive")
    labels = score_map.grid(score_map.labels() == wrong, False)
    places = np.argwhere(labels)
    glass = score_map.grid(np.ones(len(score_map)), 0) == 0
    around = [np.s_[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3] for y, x in places]
    best = int(np.argmax([labels[box].sum() * (glass[box].sum() > 4) for box in around]))
    y, x = places[best]
    page.choose_class(0)
    page.form.paint.click()
    layer = window.viewer.layers.selection.active
    painted = np.zeros(labels.shape, bool)
    painted[around[best]] = True
    layer.data[painted & labels] = 1
    layer.refresh()
    page._show_counts()
    row = int(np.flatnonzero((score_map.cells == (x, y)).all(axis=1))[0])
    fly_to(window.viewer, panel.overlay.classes, score_map, row)
    window.viewer.scene.camera.zoom /= 2
    window.take("correct-paint.png")
    page.form.name.setText("my-model")
    page.form.train.click()
    window.wait(lambda: panel.chosen.score_map.model_name == "my-model")
    window.wait_for_run()
    layer.visible = False
    window.take("correct-done.png")


def save(window: Window, work: Path) -> None:
    """The run as a folder."""
    page = window.turn_to("Save")
    look_at_first_slide(window.viewer)
    QFileDialog.getSaveFileName = lambda *_: (str(work / f"{window.slide.stem}-xt"), "")
    page.save.click()
    window.wait(lambda: page.status.text().startswith("Saved"))
    window.take("save.png")


def any_image(window: Window, work: Path) -> None:
    """A picture that napari opened by itself."""
    from xt_backend import open_slide

    with open_slide(window.slide) as slide:
        mpp = slide.info.mpp.value
        corner = (slide.info.width_px - PATCH_PX) // 2, (slide.info.height_px - PATCH_PX) // 2
        pixels = slide.read(*corner, PATCH_PX, PATCH_PX, mpp)
    patch = work / "photo.png"
    Image.fromarray(pixels).save(patch)
    viewer, panel = window.viewer, window.panel
    viewer.layers.clear()
    window.turn_to("Run")
    viewer.open(str(patch), plugin="napari", scale=(mpp, mpp), units=("um", "um"))
    window.wait(lambda: panel.pages.layout().itemAt(0).widget().use.isEnabled())
    viewer.reset_view()
    window.take("any-image.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sample", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("section", type=Path, nargs="?")
    parser.add_argument("--theme", default="dark")
    given = parser.parse_args()
    section = given.section or given.sample
    model = "breast-demo" if given.section else "context-demo"
    window = Window(section, model, given.out, given.theme)
    window.take("window.png")
    correct(window)
    save(window, given.sample.parent)
    any_image(window, given.sample.parent)
    window.viewer.close()
    window = Window(given.sample, "context-demo", given.out, given.theme)
    ask(window)
    window.viewer.close()
    with contextlib.suppress(AttributeError):
        QApplication.instance().quit()


if __name__ == "__main__":
    main()
