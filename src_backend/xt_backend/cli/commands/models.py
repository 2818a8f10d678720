"""``napari-xt models``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..app import app
from ..console import print_json, say
from ..options import Json

if TYPE_CHECKING:
    from xt_backend.model.library import ModelEntry

models = typer.Typer(help="Known models and their cards.", no_args_is_help=True)
app.add_typer(models, name="models")


@models.command("list")
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
            f"{item.name:<20} {item.source:<8} {card.task:<7} {card.model_mpp:g} um/px  "
            f"{', '.join(card.class_names)}"
        )


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


@models.command()
def show(
    model: Annotated[str, typer.Argument(help="Name of a known model, or a model file.")],
    json: Json = False,
) -> None:
    """Show a model's card: what it predicts, on what it was trained, how well it does."""
    from xt_backend.model import find_model, read_card

    fields = read_card(find_model(model)).model_dump(mode="json")
    if json:
        print_json(fields)
        return
    for name, value in fields.items():
        say(f"{name.replace('_', ' '):>20}  {_plain(value)}")


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(_plain(item) for item in value) or "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value in (None, "") else str(value)
