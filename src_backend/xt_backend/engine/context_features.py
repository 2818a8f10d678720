"""Features after context, made of stored features by the context encoder of a model."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from xt_backend.errors import ModelError
from xt_backend.model import find_model, read_card
from xt_backend.store import FeatureRows

from .device import choose_device
from .model_of_run import model_of_run

__all__ = ["ContextFeatures"]

_REGIONS_AT_ONCE = 4096


class ContextFeatures:
    """The context encoder of the model that made a run; no region encoder is needed.

    Args:
        model: Name or file of the model.
        state_sha256: Of its weights, as the run knows them.
        device: As of `choose_device`.

    Attributes:
        name: Of the model.
        dim: Length of what it makes.

    Raises:
        InputNotFoundError: No such file.
        ModelError: No such model, another one, or one without a context encoder.
        DeviceError: The device is not there.
    """

    def __init__(self, model: str, state_sha256: str, device: str = "auto") -> None:
        card = read_card(find_model(model))
        if card.layout == "reference" or card.context.kind == "none":
            raise ModelError(
                f"Model {card.name} has no context encoder between regions",
                "Use --features before",
            )
        name = choose_device(device, "fp32").name
        self._model = model_of_run(model, state_sha256, name, "Name the file with --model")
        self.name = card.name
        self.dim = card.context.dim

    def of(
        self,
        features: FeatureRows,
        rows: npt.NDArray[np.int64],
        centres_um: npt.NDArray[np.float64],
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
        """Run the context encoder over the regions of a slide.

        Features are read and reduced block by block. What is left of them, k*k tokens of `dim`
        numbers a region, is in memory at once: each region sees all others.

        Args:
            features: (m, k*k, D) of all regions.
            rows: (n,) those that have any, ascending.
            centres_um: (n, 2) their middles, as of `Lattice.centres_um`.

        Returns:
            (n, dim) the mean of each region's tokens after context, NaN where its features are
            not finite; and (dim,) what a slide model's head sees of the slide, else None.
        """
        model = self._model
        if not len(rows):
            return np.empty((0, self.dim), np.float32), None
        with torch.inference_mode():
            parts = []
            for first in range(0, len(rows), _REGIONS_AT_ONCE):
                part = torch.from_numpy(features[rows[first : first + _REGIONS_AT_ONCE]])
                parts.append(model.reduce(part.to(model.device, torch.float32)))
            found = model.predict_reduced(torch.cat(parts), torch.from_numpy(centres_um))
        token = found.slide_token
        whole = None if token is None else np.asarray(token.cpu().numpy(), np.float32)
        return np.asarray(found.context_tokens.cpu().numpy(), np.float32), whole
