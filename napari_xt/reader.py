"""napari's reader for slides: files, DICOM folders, and finished runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    LayerData = tuple[Any, dict[str, Any], str]
    ReadFunction = Callable[[str | Sequence[str]], list[LayerData]]

__all__ = ["get_reader", "get_result_reader", "read_slide"]

SLIDE_ONLY_SUFFIXES = frozenset(
    {".svs", ".ndpi", ".scn", ".mrxs", ".bif", ".vms", ".vmu", ".svslide"}
)
"""Nothing else has these names, so a file that can't be opened is told about, not passed on."""

_FILES_TRIED = 16
"""Of a DICOM folder: a slide's files are all slide files, a thousand CT images never are."""


def get_reader(path: str | Sequence[str]) -> ReadFunction | None:
    """Take slides that OpenSlide knows, run folders and their masks; decline everything else.

    Args:
        path: One path; stacks of files are declined.

    Returns:
        Function that reads the path, or None for plain images and unknown files.
    """
    if not isinstance(path, str):
        if len(path) != 1:
            return None
        path = path[0]
    from napari_xt.run_dir import is_run, read_run
    from xt_backend.keys import RunFile

    if path.endswith(RunFile.MASK):
        return _read_masks
    if is_run(Path(path)):
        return read_run
    return _read_paths if _is_slide(Path(path)) else None


def get_result_reader(path: str | Sequence[str]) -> ReadFunction | None:
    """Take the score map of a finished run, ``*.run.h5``."""
    from xt_backend.keys import RunFile

    paths = [path] if isinstance(path, str) else list(path)
    if any(not name.endswith(RunFile.SCORE_MAP) for name in paths):
        return None
    return _read_results


def read_slide(path: Path, *, remember: bool = True) -> list[LayerData]:
    """Open a slide as one multiscale layer in um.

    Args:
        path: Slide file or DICOM folder.
        remember: Whether it is offered again as one of those opened last.

    Raises:
        SlideError: The slide can't be opened; the text says why.
    """
    from napari_xt.layers import slide_layer
    from napari_xt.pyramid import Pyramid
    from napari_xt.recent import remember_slide
    from napari_xt.slide_layers import watch_current_viewer

    pyramid = Pyramid(path)
    if remember:
        remember_slide(path)
    watch_current_viewer(pyramid)
    if pyramid.info.mpp is None:
        _tell_missing_mpp(pyramid.info.name, pyramid.info.mpp_problem)
    return [slide_layer(pyramid)]


def _read_paths(path: str | Sequence[str]) -> list[LayerData]:
    paths = [path] if isinstance(path, str) else path
    return [layer for name in paths for layer in read_slide(Path(name))]


def _read_results(path: str | Sequence[str]) -> list[LayerData]:
    from napari_xt.dense_layers import dense_layers
    from napari_xt.layers import score_map_layers
    from xt_backend.store import ScoreMap

    layers = []
    for name in [path] if isinstance(path, str) else path:
        score_map = ScoreMap.load(Path(name))
        layers += score_map_layers(score_map)
        layers += dense_layers(Path(name), score_map)
    return layers


def _read_masks(path: str | Sequence[str]) -> list[LayerData]:
    from napari_xt.dense_layers import mask_layer
    from xt_backend.keys import RunFile
    from xt_backend.outputs import read_mask

    files = [Path(name) for name in ([path] if isinstance(path, str) else path)]
    return [mask_layer(read_mask(file), file.name.removesuffix(RunFile.MASK)) for file in files]


def _is_slide(path: Path) -> bool:
    from xt_backend.slides.dicom import dicom_files

    only_slides = path.suffix.lower() in SLIDE_ONLY_SUFFIXES
    try:
        if path.is_dir():
            files = islice(dicom_files(path), _FILES_TRIED)
            return any(_known_to_openslide(file) for file in files)
        return only_slides or (path.is_file() and _known_to_openslide(path))
    except OSError:  # a folder that may not be listed, a share that is gone
        return only_slides


def _known_to_openslide(path: Path) -> bool:
    import openslide

    return openslide.OpenSlide.detect_format(path) is not None


def _tell_missing_mpp(name: str, problem: str) -> None:
    from napari import current_viewer
    from napari.utils.notifications import show_warning

    from napari_xt.plain_words import plain
    from napari_xt.slide_layers import has_panel

    viewer = current_viewer()
    if viewer is not None and has_panel(viewer):
        return  # which says it beside the field to enter it
    show_warning(
        f"{name}: {plain(problem)}. It is shown in pixels; enter its pixel size in the Run xT "
        "panel to score it."
    )
