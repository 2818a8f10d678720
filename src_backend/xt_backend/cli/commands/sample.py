"""``napari-xt sample``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..app import command
from ..console import print_json, progress_bar, say
from ..options import Json


@command()
def sample(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write into.")],
    n: Annotated[int, typer.Option(metavar="N", help="How many slides.", min=1)] = 1,
    size: Annotated[
        int,
        typer.Option(
            metavar="PX", help="Side, at 0.5 um/px; 1024 to 200000.", min=1024, max=200_000
        ),
    ] = 4096,
    seed: Annotated[int, typer.Option(metavar="S", help="Same seed, same slides.")] = 0,
    json: Json = False,
) -> None:
    """Write sample slides with annotations (GeoJSON) and truth masks.

    Their truth depends on context: the same stroma is "reactive" when its lobule holds a tumour
    nest somewhere, "normal" otherwise.
    """
    from xt_backend.samples import write_samples

    with progress_bar() as bar:
        task = bar.add_task("writing sample slides", total=n)

        def progress(done: float) -> None:
            bar.update(task, completed=done)

        made = write_samples(out, n=n, size_px=size, seed=seed, progress=progress)
    if json:
        files = [
            {
                "slide": item.slide.name,
                "annotations": item.annotations.name,
                "truth": item.truth.name,
            }
            for item in made
        ]
        print_json({"folder": str(out), "samples": files})
        return
    for item in made:
        say(f"{item.slide}  (annotations: {item.annotations.name}, truth: {item.truth.name})")
