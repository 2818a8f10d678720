"""``napari-xt export``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xt_backend.config import ExportOptions

from ..app import command
from ..console import complain, print_json, progress_bar, say
from ..options import Json


@command()
def export(
    run_dir: Annotated[
        Path, typer.Argument(metavar="RUN_DIR", help="Folder that `score` or `features` wrote.")
    ],
    to: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            help="Predictions: geojson (QuPath), wsinfer, parquet, ome-tiff, dicom. Features: xt, "
            "trident, clam, stamp, slide2vec, h5ad, h5, and with --features parquet. For people: "
            "report (HTML).",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where to write [default: the run directory, or a folder in it for formats "
            "whose files could be taken for others]."
        ),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            help="before or after the context encoder of the run's model [default: before]."
        ),
    ] = None,
    level: Annotated[
        str | None,
        typer.Option(help="Features of each region, or of the whole slide [default: region]."),
    ] = None,
    merged: Annotated[
        bool, typer.Option("--merged", help="geojson: outlines of each class, not regions.")
    ] = False,
    gzip: Annotated[bool, typer.Option("--gzip", help="geojson: write .geojson.gz.")] = False,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of the region features [default: the run's].")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="For features after context, and a report's card [default: the run's]."),
    ] = None,
    json: Json = False,
) -> int:
    """Write finished runs in another format, without encoding.

    Slides need not be there, but for dicom. Exit codes: 0 all written; 2 bad usage; 3 some slides
    could not be written: damaged, or their features are no longer in the cache; 5 cannot write.
    """
    from xt_backend.batch import export_run

    given = {"features": features, "level": level, "cache": cache, "model": model}
    options = ExportOptions.checked(
        {"merged": merged, "gzip": gzip, **given},
        {name: f"--{name}" for name in given},
    )
    with progress_bar() as bar:
        task = bar.add_task(f"exporting {to}", total=None)
        done = export_run(
            run_dir,
            to,
            out,
            lambda done, total: bar.update(task, completed=done, total=total),
            options,
        )
    if json:
        names = [path.relative_to(done.folder).as_posix() for path in done.written]
        print_json({"written": names, "failed": done.failed})
    else:
        for path in done.written:
            say(str(path))
        for slide_id, reason in done.failed.items():
            complain(f"{slide_id}: {reason}")
    return 3 if done.failed else 0
