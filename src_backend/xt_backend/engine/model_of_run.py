"""The model that made a run, loaded again without its region encoder."""

from __future__ import annotations

from xt_backend.errors import ModelError
from xt_backend.model import XT, find_model, load_model, read_card

__all__ = ["model_of_run"]


def model_of_run(model: str, state_sha256: str, device: str, way_out: str) -> XT:
    """Load the model of a run for what needs no pixels; dense models come with their encoder.

    Args:
        model: Name or file.
        state_sha256: Of its weights, as the run knows them.
        device: Name of the device that it goes to.
        way_out: What helps where it is another model by now.

    Returns:
        The model in eval mode; none of its weights asks for gradients.

    Raises:
        InputNotFoundError: No such file.
        ModelError: No such model, another one, or a converted one, which keeps no tokens.
    """
    path = find_model(model)
    card = read_card(path)
    if card.state_sha256 != state_sha256:
        raise ModelError(
            f"{path.name} is not the model of this run: its weights have sha256 "
            f"{card.state_sha256[:12]}, those of the run {state_sha256[:12]}",
            way_out,
        )
    made = load_model(path, defer_encoder=True)
    if not isinstance(made, XT):
        raise ModelError(
            f"Model {card.name} was converted and keeps no tokens of regions",
            "Use a model that was trained here",
        )
    made.requires_grad_(False)
    return made.to(device)
