"""Which plugin opens slides and saved runs that are dropped on the window."""

from __future__ import annotations

import os

from napari_xt.reader import SLIDE_ONLY_SUFFIXES
from xt_backend.keys import PRODUCT

__all__ = ["RUN_FOLDER", "open_slides_here"]

RUN_FOLDER = "-xt"
"""What the suggested names of run folders end with."""


def open_slides_here() -> None:
    """Let napari open slides and saved runs with this plugin, where the user has chosen none.

    napari's own reader takes some of their formats too, at full resolution into memory, and any
    folder, so that napari would ask with every slide and run. Only for names that nothing else
    has; the choice stands in *Preferences > Plugins*.
    """
    from napari.settings import get_settings

    plugins = get_settings().plugins
    chosen = plugins.extension2reader
    endings = (*sorted(SLIDE_ONLY_SUFFIXES), RUN_FOLDER + os.sep)
    ours = {f"*{ending}": PRODUCT for ending in endings}
    if missing := {pattern: name for pattern, name in ours.items() if pattern not in chosen}:
        plugins.extension2reader = {**chosen, **missing}
