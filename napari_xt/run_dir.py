"""A run directory, dropped on napari: its slides with their results, or the results alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_xt.slide_layers import panel_of, pyramid_of, unwrapped
from xt_backend.errors import StoreError, XTError
from xt_backend.keys import RunFile, RunH5

if TYPE_CHECKING:
    from napari_xt.reader import LayerData
    from xt_backend.store import ScoreMap

__all__ = ["MOST_SLIDES", "Found", "find_slides_of", "is_run", "read_run"]

_log = logging.getLogger(__name__)

MOST_SLIDES = 4
"""Slides of one run that are opened together."""


@dataclass(frozen=True)
class Found:
    """One result of a run.

    Attributes:
        file: ``<id>.run.h5``.
        score_map: What it holds.
        slide: Where its slide is; None where it was not found.
        problem: Why not.
    """

    file: Path
    score_map: ScoreMap
    slide: Path | None
    problem: str = ""


def is_run(path: Path) -> bool:
    """Whether a folder was written by `score`."""
    try:
        return (path / RunFile.RUN_JSON).is_file() and any(path.glob(f"*{RunFile.SCORE_MAP}"))
    except OSError:
        return False


def find_slides_of(folder: Path) -> tuple[list[Found], int]:
    """The first results of a run, each with its slide where that can be found.

    A slide is sought where it was when it was scored (local.json), and by its name in the folder
    and beside it; what decides is its content.

    Args:
        folder: Run directory.

    Returns:
        Results, and how many more there are.

    Raises:
        StoreError: No result can be read.
    """
    from xt_backend.outputs import read_json
    from xt_backend.store import ScoreMap

    files = sorted(folder.glob(f"*{RunFile.SCORE_MAP}"))
    places: dict[str, str] = {}
    try:
        listed = read_json(folder / RunFile.LOCAL_JSON).get("slides")
        places = listed if isinstance(listed, dict) else {}
    except StoreError:  # made on another machine, or by another person
        _log.debug("no local.json", exc_info=True)
    found: list[Found] = []
    problem: StoreError | None = None
    for file in files[:MOST_SLIDES]:
        try:
            score_map = ScoreMap.load(file)
        except StoreError as error:
            problem = problem or error
            continue
        slide_id = file.name.removesuffix(RunFile.SCORE_MAP)
        known = [Path(places[slide_id])] if slide_id in places else []
        around = [place / score_map.slide_name for place in (folder, folder.parent)]
        slide, why = _slide_among([*known, *around], score_map)
        found.append(Found(file, score_map, slide, why))
    if not found and problem is not None:
        raise problem
    return found, len(files) - min(len(files), MOST_SLIDES)


def read_run(path: str | Sequence[str]) -> list[Any]:
    """Layer data of a run directory; what cannot be shown is told as one warning.

    In a window the layers follow when the slides have been found: their content has to be read.

    Raises:
        StoreError: No result can be read; a window tells it.
    """
    from napari import current_viewer

    folder = Path(path if isinstance(path, str) else path[0])
    viewer = current_viewer()
    if viewer is not None:
        _find_beside(unwrapped(viewer), folder)
        return [(None,)]  # what napari takes for nothing yet
    found, more = find_slides_of(folder)
    _tell(folder, found, more)
    return [layer for one in found for layer in _plain(one)]


def _plain(one: Found) -> list[LayerData]:
    """Layers that nothing looks after: those of a result without a panel or its slide."""
    from napari_xt.dense_layers import dense_layers
    from napari_xt.layers import score_map_layers
    from napari_xt.reader import read_slide

    slide = [] if one.slide is None else read_slide(one.slide)
    return [*slide, *score_map_layers(one.score_map), *dense_layers(one.file, one.score_map)]


def _find_beside(viewer: Any, folder: Path) -> None:
    """Look for the slides in a thread, then show what was found."""
    from napari.utils.notifications import show_error

    from napari_xt.latest_job import LatestJob
    from napari_xt.plain_words import plain

    def show(result: Any) -> None:
        job.deleteLater()
        try:
            if isinstance(result, XTError):
                raise result
            found, more = result
            _tell(folder, found, more)
            for one in found:
                _show_in_panel(viewer, one)
        except XTError as error:  # a slide may have gone meanwhile
            show_error(plain(str(error)))

    job = LatestJob(show, viewer.window._qt_window)  # ends with the window
    job.ask(lambda: find_slides_of(folder))


def _tell(folder: Path, found: list[Found], more: int) -> None:
    """Warn once of all that is not shown."""
    from napari.utils.notifications import show_warning

    told = [one.problem for one in found if one.problem]
    if more:
        told.append(
            f"{folder.name} holds {more:,} more results; drop a slide's {RunFile.SCORE_MAP} file "
            "to see it"
        )
    if told:
        show_warning(". ".join(told) + ".")


def _show_in_panel(viewer: Any, one: Found) -> None:
    """Open the slide, unless it is open, and lay its result over it; alone where there is none."""
    from napari.layers import Layer

    from napari_xt.dense_layers import dense_layers
    from napari_xt.reader import read_slide

    if one.slide is None:
        for data in _plain(one):
            viewer.add_layer(Layer.create(*data))
        return
    wanted = one.slide.resolve()
    shown = [
        layer
        for layer in viewer.layers
        if (pyramid := pyramid_of(layer)) is not None and pyramid.path.resolve() == wanted
    ]
    for data in [] if shown else read_slide(one.slide):
        shown.append(viewer.add_layer(Layer.create(*data)))
    panel = panel_of(viewer)
    panel.setup.choose_slide(shown[0])
    panel.show_result(one.score_map)
    for data in dense_layers(one.file, one.score_map):
        panel.show_dense(data)


def _slide_among(places: list[Path], score_map: ScoreMap) -> tuple[Path | None, str]:
    """The first of some files that is the slide of a result, or why there is none."""
    from xt_backend.slides import open_slide

    identity = score_map.run_meta.get(RunH5.META_SLIDE_IDENTITY)
    name = score_map.slide_name
    others = False
    for place in places:
        try:
            if not place.exists():
                continue
            with open_slide(place) as slide:
                if slide.identity() == identity:
                    return place, ""
            others = True
        except (XTError, OSError):
            _log.debug("no slide", exc_info=True)
    if others:
        return None, f"{name} beside this run has another content, so its result is shown alone"
    return None, (
        f"{name} was not found where it was scored nor beside this run, so its result is shown "
        "alone; put the slide beside the folder and drop it again"
    )
