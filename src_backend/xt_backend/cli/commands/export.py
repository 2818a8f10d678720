"""``napari-xt export``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..app import command
from ..console import complain, print_json, progress_bar, say
from ..options import Json


@command()
def export(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Folder that `score` wrote.")],
    to: Annotated[
        str, typer.Option(metavar="KIND", help="parquet, geojson (QuPath) or wsinfer (CSV).")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Where to write [default: the run directory].")
    ] = None,
    json: Json = False,
) -> int:
    """Write finished runs in another format, without computing.

    Exit codes: 0 all written; 2 bad usage; 3 some score maps are damaged; 5 cannot write.
    """
    from xt_backend.batch import export_run

    with progress_bar() as bar:
        task = bar.add_task(f"exporting {to}", total=None)
        done = export_run(
            run_dir, to, out, lambda done, total: bar.update(task, completed=done, total=total)
        )
    if json:
        print_json({"written": [path.name for path in done.written], "failed": done.failed})
    else:
        for path in done.written:
            say(str(path))
        for slide_id, reason in done.failed.items():
            complain(f"{slide_id}: {reason}")
    return 3 if done.failed else 0
