"""File > Open Sample: a synthetic slide, made once and kept in the user's cache folder."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xt_backend.samples import Sample

    LayerData = tuple[Any, dict[str, Any], str]

__all__ = ["SAMPLE_MODEL", "is_sample", "make_sample", "sample_folder", "sample_slide"]

SAMPLE_MODEL = "context-demo"
"""The bundled model for sample slides; on real tissue it means nothing."""

SIZE_PX = 3072
SEED = 5
_TICK_MS = 50

_being_drawn: set[Path] = set()
"""Folders of sample slides; only touched in the main thread."""


def sample_folder() -> Path:
    """Where sample slides are kept: ``samples`` in the user's cache folder."""
    import platformdirs

    from xt_backend.keys import PRODUCT

    return platformdirs.user_cache_path(PRODUCT, appauthor=False) / "samples"


def is_sample(name: str) -> bool:
    """Whether a slide is one of ``napari-xt sample``, by its file name."""
    return re.fullmatch(r"sample_\d+_\d+\.tiff", name) is not None


def sample_slide() -> list[LayerData]:
    """Open the sample slide; the first time it is drawn, with a progress bar."""
    from napari_xt.reader import read_slide

    return read_slide(make_sample(sample_folder()))


def make_sample(folder: Path, size_px: int = SIZE_PX) -> Path:
    """Draw the sample slide into a folder, unless it is there.

    The drawing is done in a thread; the window stays alive meanwhile.

    Args:
        folder: Made if missing.
        size_px: Side of the slide.

    Returns:
        The slide.

    Raises:
        OutputError: The folder can't be written.
        UsageError: It is being drawn already; the window is alive and can be clicked again.
    """
    from xt_backend.errors import UsageError
    from xt_backend.store import writer_version

    if folder in _being_drawn:
        raise UsageError("The sample slide is being drawn already", "It opens when it is ready")
    own = folder / f"{writer_version()}-{size_px}"
    slides = sorted(own.glob("*.tiff"))
    if slides:
        return slides[0]
    _being_drawn.add(folder)
    try:
        return _draw(own, size_px).slide
    finally:
        _being_drawn.discard(folder)


def _draw(folder: Path, size_px: int) -> Sample:
    from napari.utils import progress

    from xt_backend.samples import write_samples

    share = 0.0
    outcome: list[Sample | BaseException] = []

    def tell(done: float) -> None:
        nonlocal share
        share = done

    def work() -> None:
        try:
            outcome.extend(write_samples(folder, 1, size_px, SEED, tell))
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=work, name="xt-sample", daemon=True)
    thread.start()
    with progress(total=100, desc="Drawing the sample slide") as bar:
        while thread.is_alive():
            thread.join(_TICK_MS / 1000)
            bar.n = int(100 * share)
            bar.refresh()
            _let_the_window_live()
    (result,) = outcome
    if isinstance(result, BaseException):
        raise result
    return result


def _let_the_window_live() -> None:
    from qtpy.QtWidgets import QApplication

    application = QApplication.instance()
    if application is not None:
        application.processEvents()
