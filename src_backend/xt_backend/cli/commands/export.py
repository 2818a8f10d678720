"""``napari-xt export``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..app import app
from ..console import print_json, progress_bar, say
from ..options import Json


@app.command()
def export(
    run_dir: Annotated[Path, typer.Argument(help="Folder that `score` wrote.")],
    to: Annotated[str, typer.Option(help="parquet, geojson (QuPath) or wsinfer (CSV).")],
    out: Annotated[
        Path | None, typer.Option(help="Where to write [default: the run directory].")
    ] = None,
    json: Json = False,
) -> None:
    """Write finished runs in another format, without computing anything again."""
    from xt_backend.batch import export_run

    with progress_bar(not json) as bar:
        task = bar.add_task(f"exporting {to}", total=None)
        written = export_run(
            run_dir, to, out, lambda done, total: bar.update(task, completed=done, total=total)
        )
    if json:
        print_json({"written": [path.name for path in written]})
        return
    for path in written:
        say(str(path))
