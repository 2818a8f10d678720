"""``napari-xt info``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from xt_backend.errors import InputNotFoundError

from ..app import app
from ..console import print_json, say
from ..options import AcceptObjectiveMpp, Json, SlideMpp


@app.command()
def info(
    slide: Annotated[Path, typer.Argument(help="Slide file or DICOM folder.")],
    slide_mpp: SlideMpp = None,
    accept_objective_mpp: AcceptObjectiveMpp = None,
    json: Json = False,
) -> None:
    """Show a slide's format, levels, pixel size and its source, and what would be read."""
    from xt_backend.slides import open_slide

    if not slide.exists():
        raise InputNotFoundError(f"There is no file or folder {slide}", "Check the path")
    with open_slide(slide, slide_mpp, accept_objective_mpp=bool(accept_objective_mpp)) as opened:
        facts = _facts(opened)
    if json:
        print_json(facts)
        return
    for name, value in facts.items():
        say(f"{name.replace('_', ' '):>16}  {_plain(value)}")


def _facts(slide: Any) -> dict[str, Any]:
    """Whitelisted facts only: never free-text properties, never a path."""
    from xt_backend.errors import SlideError
    from xt_backend.slides import find_tissue

    about = slide.info
    facts: dict[str, Any] = {
        "slide": about.name,
        "format": about.vendor,
        "width_px": about.width_px,
        "height_px": about.height_px,
        "levels": [
            {"width_px": size[0], "height_px": size[1], "downsample": downsample}
            for size, downsample in zip(
                about.level_dimensions, about.level_downsamples, strict=True
            )
        ],
        "mpp": None if about.mpp is None else {"x": about.mpp.x, "y": about.mpp.y},
        "mpp_source": about.mpp.source if about.mpp else "",
        "mpp_problem": about.mpp_problem,
        "objective_power": about.objective_power,
        "bounds_px": list(about.bounds_px) if about.has_bounds else None,
    }
    try:
        tissue = find_tissue(slide.thumbnail(), slide_mpp=about.mpp.value if about.mpp else None)
        facts["tissue"] = tissue.kind
        facts["tissue_fraction"] = round(float(tissue.mask.mean()), 4)
        facts["tissue_note"] = tissue.reason
    except SlideError as error:
        facts["tissue"] = "unknown"
        facts["tissue_note"] = str(error)
    return facts


def _plain(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return ", ".join(
            f"{item['width_px']} x {item['height_px']} (/{item['downsample']:g})" for item in value
        )
    if isinstance(value, dict):
        return ", ".join(f"{key} {item:g}" for key, item in value.items()) + " um/px"
    if value is None or value == "":
        return "-"
    return str(value)
