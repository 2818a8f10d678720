"""``napari-xt models``"""

from __future__ import annotations

from dataclasses import asdict
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xt_backend.errors import UsageError

from ..app import PlainCommand, app
from ..card_text import card_lines
from ..console import print_json, say
from ..options import Json, Offline, listed

if TYPE_CHECKING:
    from xt_backend.model.library import ModelEntry

models = typer.Typer(help="Known models and their cards.", no_args_is_help=True)
app.add_typer(models, name="models")


@models.command("list", cls=PlainCommand)
def list_(json: Json = False) -> None:
    """List bundled and local models."""
    from xt_backend.model import list_models

    known = list_models()
    if json:
        print_json({"models": [_row(item) for item in known]})
        return
    if not known:
        say("No model was found.")
    for item in known:
        if item.card is None:
            say(f"{item.name:<20} {item.source:<8} cannot be used: {item.problem}")
            continue
        card = item.card
        say(
            f"{item.name:<20} {item.source:<8} {card.task:<7} {_mpp(card.model_mpp)}  "
            f"{', '.join(card.class_names)}"
        )


def _mpp(model_mpp: float | None) -> str:
    return "no um/px" if model_mpp is None else f"{model_mpp:g} um/px"


def _row(item: ModelEntry) -> dict[str, Any]:
    card = item.card
    row: dict[str, Any] = {
        "name": item.name,
        "source": item.source,
        "task": card.task if card else None,
        "classes": list(card.class_names) if card else [],
        "model_mpp": card.model_mpp if card else None,
    }
    return {**row, "problem": item.problem} if item.problem else row


@models.command(cls=PlainCommand)
def show(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Name of a known model, or a model file.")
    ],
    json: Json = False,
) -> None:
    """Show a model's card: what it predicts and how well."""
    from xt_backend.model import find_model, read_card

    card = read_card(find_model(model))
    if json:
        print_json(card.model_dump(mode="json"))
        return
    for line in card_lines(card):
        say(line)


@models.command(cls=PlainCommand)
def fetch(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A known model, a region encoder of timm, or hf-hub:owner/name[@COMMIT].",
        ),
    ],
    offline: Offline = None,
    json: Json = False,
) -> None:
    """Bring a model or an encoder's weights to this computer.

    They need no network from then on, and a model of the hub goes by its repository's name.
    """
    from xt_backend.model.fetch import fetch_model

    found = fetch_model(model, offline=offline)
    if json:
        print_json(asdict(found))
        return
    option = "--model" if found.kind == "model" else "--encoder"
    say(f"{found.kind} {found.name} is here; {option} {found.name} needs no network")
    where = " at ".join(part for part in (found.source, found.revision) if part)
    say(f"source   {where}")
    say(f"sha256   {found.sha256}")
    say(f"licence  {found.licence or 'not stated; ask whoever made the weights'}")


@models.command(cls=PlainCommand)
def convert(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Of the xT reference.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Model file to write, .safetensors.")],
    backbone: Annotated[str, typer.Option(help="timm name of its backbone.")],
    region_px: Annotated[int, typer.Option(help="Side of the backbone's input, px.")],
    context: Annotated[str, typer.Option(help="Its context encoder: hyper or mamba.")],
    backbone_args: Annotated[
        str | None, typer.Option(help="Further arguments of the backbone, a JSON object.")
    ] = None,
    crop_px: Annotated[
        int | None,
        typer.Option(help="Side of the crops that score classifies [default: 2 regions]."),
    ] = None,
    model_mpp: Annotated[
        float | None, typer.Option(help="Pixel size that it was trained at, um/px.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Names, comma-separated [default: class_0,class_1,...].")
    ] = None,
    json: Json = False,
) -> None:
    """Make a model of a checkpoint of the xT reference.

    Classes and sizes come from the weights. Pickles are read as plain tensors in a process of
    their own, and refused where they hold more.
    """
    from xt_backend.model.convert import convert_checkpoint

    card = convert_checkpoint(
        checkpoint,
        out,
        backbone=backbone,
        region_px=region_px,
        context=context,
        backbone_args=_json_object(backbone_args),
        crop_px=crop_px,
        model_mpp=model_mpp,
        classes=listed(classes),
    )
    if json:
        print_json({"out": str(out), "card": card.model_dump(mode="json")})
        return
    n = card.scored_px // card.region_px
    say(
        f"{out}: {len(card.classes)} classes, {context} context of {card.context.layers} layers, "
        f"regions of {region_px} px. score classifies crops of {card.scored_px} px "
        f"({n} x {n} regions)"
        + ("; give it --model-mpp, this model states none" if card.model_mpp is None else "")
    )


def _json_object(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        found = loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UsageError(
            f"--backbone-args: '{text[:80]}' is no JSON object",
            """Write for example '{"embed_dim": 96}'""",
        )
    return found
