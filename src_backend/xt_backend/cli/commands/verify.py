"""``napari-xt verify``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xt_backend.wording import counted

from ..app import command
from ..console import complain, print_json, progress_bar, say
from ..options import Json


@command()
def verify(
    run_dir: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder that `score` or `features` wrote.")
    ],
    json: Json = False,
) -> int:
    """Tell which results of a run are damaged or gone.

    All of them are read to their end. Nothing is changed, and no slide is needed. Exit codes: 0
    all is whole; 2 no run; 3 something is damaged or gone.
    """
    from xt_backend.batch import verify_run

    with progress_bar() as bar:
        task = bar.add_task("reading results", total=None)
        found = verify_run(
            run_dir, lambda done, total: bar.update(task, completed=done, total=total)
        )
    if json:
        print_json({"slides": found.n_slides, "problems": found.problems})
    else:
        for slide_id, problem in found.problems.items():
            complain(f"{slide_id}: {problem}")
        say(
            f"{counted(found.n_slides, 'slide')} with results, "
            f"{counted(len(found.problems), 'slide')} with problems"
        )
    return 3 if found.problems else 0
