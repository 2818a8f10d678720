"""``napari-xt summarise``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..app import command
from ..options import Json
from ..rows import show_run


@command()
def summarise(
    run_dir: Annotated[
        Path, typer.Argument(metavar="RUN_DIR", help="Folder that `score` or `features` wrote.")
    ],
    json: Json = False,
) -> int:
    """Make slides.csv and run.json anew from what the slides left.

    After a kill, or where other processes or machines do the work. Nothing is computed. Exit
    codes: 0 all done; 2 no run; 3 some slides failed or hold NaN; 5 cannot write; 130 some slides
    were not reached.
    """
    from xt_backend.batch import summarise as summarise_run

    run = summarise_run(run_dir)
    show_run(run, run_dir, json)
    return run.exit_code
