"""``napari-xt view``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xt_backend.errors import InputNotFoundError, SlideError, StoreError, UsageError

from ..app import command
from ..options import OneSlide


@command()
def view(
    slide: OneSlide,
    run_dir: Annotated[
        Path | None, typer.Argument(metavar="RUN_DIR", help="Folder that `score` wrote.")
    ] = None,
) -> None:
    """Open napari with a slide and, when given, its results."""
    from importlib import import_module
    from importlib.util import find_spec

    for path in (slide, run_dir):
        if path is not None and not path.exists():
            raise InputNotFoundError(f"There is no file or folder {path}", "Check the path")
    if find_spec("napari") is None:
        raise UsageError("napari is not installed", 'Install it with: pip install "napari-xt[all]"')
    # By name: nothing below the window may depend on it.
    window = import_module("napari_xt.view")
    try:
        window.show(slide, run_dir)
    except (SlideError, StoreError) as error:  # both were named, so nothing was worked on yet
        raise UsageError(error.cause, error.way_out) from error
