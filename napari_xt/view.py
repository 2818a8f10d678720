"""napari with a slide and the result of a run: what `napari-xt view` opens."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from xt_backend.errors import InputNotFoundError, OutputConflictError, StoreError, UsageError
from xt_backend.keys import PRODUCT, RunFile, RunH5

if TYPE_CHECKING:
    import napari

    from xt_backend.slides import Slide
    from xt_backend.store import ScoreMap

__all__ = ["find_result", "open_view", "save_screenshot", "show"]

PAINT_PATIENCE_MS = 3000
"""Time for tiles and the preview to arrive before a picture is taken."""


def open_view(slide: Path, run_dir: Path | None = None, *, show: bool = True) -> napari.Viewer:
    """Open napari with a slide, the panel `Run xT`, and the slide's result if there is one.

    The caller starts the event loop with `napari.run()`; `show` does both.

    Args:
        slide: Slide file or DICOM folder.
        run_dir: Folder that `napari-xt score` wrote, or one ``.run.h5`` file of it.
        show: Whether the window is shown at once.

    Raises:
        SlideError: The slide can't be opened.
        UsageError: The run holds no result of this slide.
        StoreError: `run_dir` is a file that can't be read.
    """
    from xt_backend.slides import open_slide

    with open_slide(slide) as opened:  # before there is a window
        with_result = None if run_dir is None else find_result(run_dir, opened)
    import napari
    from qtpy.QtWidgets import QApplication

    from napari_xt.dense_layers import dense_layers
    from napari_xt.reader import read_slide
    from napari_xt.slide_layers import PANEL, watch_viewer
    from napari_xt.world import look_at_first_slide

    viewer = napari.Viewer(title=f"{PRODUCT}: {Path(slide).name}", show=show)
    watch_viewer(viewer)
    # First: it says itself, beside the field to enter it, that a slide lacks its pixel size.
    _, panel = viewer.window.add_plugin_dock_widget(PRODUCT, PANEL)
    for data, options, _ in read_slide(Path(slide)):
        viewer.add_image(data, **options)
    if with_result is not None and run_dir is not None:
        panel.show_result(with_result)
        for data in dense_layers(Path(run_dir), with_result):
            panel.show_dense(data)
    QApplication.processEvents()  # panel and columns take their room before the slide gets the rest
    look_at_first_slide(viewer)
    return viewer


def show(slide: Path, run_dir: Path | None = None) -> None:
    """Open napari as `open_view` does, and stay until the window is closed.

    Raises:
        UsageError: There is no display, and as `open_view`.
    """
    from napari_xt.display import require_display

    require_display()
    import napari

    open_view(slide, run_dir)
    napari.run()


def find_result(run_dir: Path, slide: Slide) -> ScoreMap:
    """The score map of a slide in a run, known by the slide's content, whatever its name.

    Args:
        run_dir: Folder of a run, or a ``.run.h5`` file.
        slide: The slide that it must belong to.

    Raises:
        InputNotFoundError: There is no such folder, or no result of this slide in it.
        OutputConflictError: The file is the result of another slide.
        SlideError: A file of the slide can't be read.
        StoreError: The file can't be read.
    """
    from xt_backend.store import ScoreMap

    run_dir, identity, name = Path(run_dir), slide.identity(), slide.info.name
    if run_dir.is_file():
        score_map = ScoreMap.load(run_dir)
        if not _is_of(score_map, identity):
            raise OutputConflictError(
                f"{run_dir.name} is not a result of {name}: their contents differ",
                "Give the slide and its own result",
            )
        return score_map
    if not run_dir.is_dir():
        raise InputNotFoundError(f"There is no run {run_dir}", "Give a folder that `score` wrote")
    # The likeliest first; what decides is the content.
    files = sorted(
        run_dir.glob(f"*{RunFile.SCORE_MAP}"),
        key=lambda file: (not file.name.startswith(Path(name).stem), file.name),
    )
    unreadable: list[StoreError] = []
    for file in files:
        try:
            score_map = ScoreMap.load(file)
        except StoreError as error:
            unreadable.append(error)
            continue
        if _is_of(score_map, identity):
            return score_map
    others = f"{len(files) - len(unreadable)} of other slides"
    if unreadable:
        others += f", {len(unreadable)} that cannot be read: {unreadable[0].cause}"
    raise InputNotFoundError(
        f"{run_dir.name} holds no result of {name} ({others})", "Score the slide into it first"
    )


def _is_of(score_map: ScoreMap, identity: str) -> bool:
    return score_map.run_meta.get(RunH5.META_SLIDE_IDENTITY) == identity


def save_screenshot(
    viewer: napari.Viewer, path: Path, *, width_px: int = 1500, height_px: int = 900
) -> None:
    """Save a picture of the whole window.

    Args:
        viewer: What is photographed.
        path: PNG file.
        width_px: Width of the window.
        height_px: Height of the window.

    Raises:
        UsageError: The size makes no sense.
    """
    if width_px < 1 or height_px < 1:
        raise UsageError(f"A picture of {width_px} x {height_px} px", "Give a size above 0")
    from qtpy.QtCore import QEventLoop, QTimer

    from napari_xt.world import look_at_first_slide

    viewer.window.resize(width_px, height_px)
    QTimer.singleShot(PAINT_PATIENCE_MS // 2, partial(look_at_first_slide, viewer))
    loop = QEventLoop()
    QTimer.singleShot(PAINT_PATIENCE_MS, loop.quit)
    loop.exec_() if hasattr(loop, "exec_") else loop.exec()
    viewer.screenshot(str(path), canvas_only=False, flash=False)
