"""``napari-xt import``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xt_backend.errors import UsageError

from ..app import command
from ..console import print_json, progress_bar, say
from ..options import Json, check_slide_mpp


@command("import")
def import_images(
    images: Annotated[Path, typer.Argument(help="Folder of pictures: PNG, JPEG, TIFF, ...")],
    out: Annotated[Path, typer.Option(help="Folder to write into.")],
    mpp: Annotated[float, typer.Option(help="Pixel size of the pictures, um/px.")],
    masks: Annotated[
        Path | None, typer.Option(help="Folder with a grey or paletted mask for each picture.")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Classes of the masks' values: 0=other,255=tumour; 7= leaves 7 unannotated."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Make slides of plain pictures, and annotations of their masks."""
    from xt_backend.samples import import_pictures

    check_slide_mpp(mpp, "--mpp")
    named = None if classes is None else _classes(classes)
    with progress_bar() as bar:
        task = bar.add_task("writing slides", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        made = import_pictures(images, out, mpp, masks=masks, classes=named, progress=progress)
    if json:
        files = [
            {"slide": one.slide.name, "annotations": one.annotations and one.annotations.name}
            for one in made
        ]
        print_json({"folder": str(out), "slides": files})
        return
    say(f"{len(made)} slides" + (" with annotations" if named else "") + f" in {out}")


def _classes(text: str) -> dict[int, str]:
    found: dict[int, str] = {}
    for item in text.split(","):
        value, equals, name = item.partition("=")
        try:
            number = int(value)
        except ValueError:
            number = -1
        if number < 0 or not equals:
            raise UsageError(
                f"--classes: '{item}' is not VALUE=CLASS", "Write for example 0=other,255=tumour"
            )
        if number in found:
            raise UsageError(f"--classes names value {number} twice", "Name each value once")
        found[number] = name.strip()
    return found
