"""``napari-xt info``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from xt_backend.errors import InputNotFoundError, SlideError, UsageError
from xt_backend.wording import counted

from ..app import command
from ..console import print_json, say
from ..options import AcceptObjectiveMpp, Json, OneSlide, SlideMpp, check_slide_mpp

if TYPE_CHECKING:
    from xt_backend.model import ModelCard
    from xt_backend.slides import Slide, Tissue


@command()
def info(
    slide: OneSlide,
    model: Annotated[
        str | None, typer.Option(help="Say what this model would read [default: all known ones].")
    ] = None,
    slide_mpp: SlideMpp = None,
    accept_objective_mpp: AcceptObjectiveMpp = None,
    json: Json = False,
) -> int:
    """Show a slide's format, levels, pixel size, and what is read.

    Exit codes: 0 shown; 2 bad usage; 3 the slide cannot be read, or is none that models are for.
    """
    from xt_backend.slides import open_slide

    check_slide_mpp(slide_mpp)
    if not slide.exists():
        raise InputNotFoundError(f"There is no file or folder {slide}", "Check the path")
    cards = _cards(model)
    with open_slide(slide, slide_mpp, accept_objective_mpp=bool(accept_objective_mpp)) as opened:
        facts, usable = _facts(opened, cards)
    code = 0 if usable else 3
    if json:
        print_json(facts)
        return code
    reads = facts.pop("reads")
    for name, value in facts.items():
        if value == "":
            continue
        say(f"{name.replace('_', ' '):>16}  {_plain(value)}")
    for read in reads:
        say(f"{'would be read':>16}  {_sentence(read)}")
    return code


def _cards(model: str | None) -> list[ModelCard]:
    from xt_backend.model import find_model, list_models, read_card

    if model is not None:
        return [read_card(find_model(model))]
    return [item.card for item in list_models() if item.card is not None]


def _facts(slide: Slide, cards: list[ModelCard]) -> tuple[dict[str, Any], bool]:
    """Whitelisted facts only, and whether the slide can be used: no free-text, never a path."""
    from xt_backend.engine.preparation import THUMBNAIL_PX
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
        "missing_files": slide.missing,
        "reader": str(slide.reading),
    }
    tissue = None
    try:
        mpp = about.mpp.value if about.mpp else None
        tissue = find_tissue(slide.thumbnail(THUMBNAIL_PX), slide_mpp=mpp)
        facts["tissue"] = tissue.kind
        facts["tissue_fraction"] = round(tissue.fraction(), 4)
        facts["tissue_note"] = tissue.reason
    except SlideError as error:
        facts["tissue"] = "unknown"
        facts["tissue_note"] = str(error)
    facts["reads"] = [] if tissue is None else [_read(slide, tissue, card) for card in cards]
    return facts, tissue is not None and not slide.missing


def _read(slide: Slide, tissue: Tissue, card: ModelCard) -> dict[str, Any]:
    """What a run of a model would read, or why it would not."""
    from xt_backend.engine.preparation import lattice_of, size_warning
    from xt_backend.slides import check_scale

    read: dict[str, Any] = {"model": card.name}
    try:
        mpp = card.mpp()
        check_scale(slide.require_mpp().value, mpp)
        lattice = lattice_of(slide, mpp, card.scored_px)
        cells = lattice.select(tissue.mask, tissue.scale_x, tissue.scale_y)
        level = slide.plan(mpp).level
    except (SlideError, UsageError) as error:
        return {**read, "problem": str(error)}
    read |= {
        "model_mpp": mpp,
        "region_px": card.scored_px,
        "level": level,
        "n_regions": len(cells),
    }
    warning = size_warning(lattice, cells)
    return {**read, "warning": warning} if warning else read


def _sentence(read: dict[str, Any]) -> str:
    if "problem" in read:
        return f"nothing by {read['model']}: {read['problem']}"
    warning = f". Warning: {read['warning']}" if "warning" in read else ""
    return (
        f"{counted(read['n_regions'], 'region')} of {read['region_px']} px at "
        f"{read['model_mpp']:g} um/px from level {read['level']} by {read['model']}{warning}"
    )


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
