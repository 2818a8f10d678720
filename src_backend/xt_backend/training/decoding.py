"""Teaching the decoder of dense and detection models, chunk by chunk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xt_backend.model import XT

from .appearance import turn_maps
from .learner import Backward
from .pixel_losses import heat_loss, mask_loss
from .pixel_targets import IGNORED, MaskTargets, PixelTargets
from .pixels import PixelField, RegionStream, Rows
from .streams import TwoStreams

__all__ = ["DecoderTeacher"]

BLANK_SHARE = 0.25
"""Share of regions that are decoded without context, so that ``--context off`` means something."""


@dataclass(frozen=True)
class DecoderTeacher:
    """Knows the decoder's loss.

    Attributes:
        model: A dense or detection model.
        streams: Run its region encoder.
        by_class: (C,) weights of the classes, for masks.
    """

    model: XT
    streams: TwoStreams
    by_class: Tensor

    def teach(
        self,
        regions: RegionStream,
        field: PixelField,
        rows: Rows,
        context: Tensor,
        taught: npt.NDArray[np.bool_],
        way: int,
        rng: np.random.Generator,
        total: float,
        backward: Backward,
    ) -> float:
        """Add the gradients of the decoder, of the context tokens, and of the encoder's maps.

        Args:
            regions: Pixels of the n regions.
            field: The slide.
            rows: (n,) their places in the field's cells.
            context: (n, dim) leaf that takes its gradient.
            taught: (n,) regions that teach the encoder as well.
            way: How the pixels are turned.
            rng: Draws the regions that are decoded without context.
            total: What the loss is divided by.
            backward: The fitter's.

        Returns:
            The loss.
        """
        known = _targets(field).known[rows]
        blank = rng.random(len(rows)) < BLANK_SHARE
        loss = 0.0
        for learns in (False, True):
            for part, pixels in regions.read(np.flatnonzero(known & (taught == learns))):
                tokens = _take(context, part) * _column(~blank[part], context)
                logits = self.streams.decode(pixels, tokens, self.model, learns=learns)
                mine = self._loss(logits, field, rows[part], way) / total
                backward(mine)
                loss += mine.item()
        return loss

    @torch.no_grad()
    def judge(
        self, regions: RegionStream, field: PixelField, rows: Rows, context: Tensor
    ) -> tuple[float, npt.NDArray[np.float64]]:
        """The loss, not divided yet, and for masks the (C, C) counts of pixels."""
        n_classes = len(self.by_class)
        loss, counts = 0.0, np.zeros((n_classes, n_classes))
        known = _targets(field).known[rows]
        for part, pixels in regions.read(np.flatnonzero(known)):
            logits = self.streams.decode(pixels, _take(context, part), self.model, learns=False)
            loss += self._loss(logits, field, rows[part], 0).item()
            targets = field.targets
            if isinstance(targets, MaskTargets):
                true = targets.of(field.cells[rows[part]])
                predicted = logits.argmax(dim=1).cpu().numpy()
                pairs = (true * n_classes + predicted)[true != IGNORED]
                counts += np.bincount(pairs, minlength=n_classes**2).reshape(counts.shape)
        return loss, counts

    def _loss(self, logits: Tensor, field: PixelField, rows: Rows, way: int) -> Tensor:
        targets = _targets(field)
        wanted = torch.from_numpy(turn_maps(targets.of(field.cells[rows]), way)).to(logits.device)
        if isinstance(targets, MaskTargets):
            return mask_loss(logits, wanted, self.by_class)
        return heat_loss(logits, wanted)


def _targets(field: PixelField) -> PixelTargets:
    if field.targets is None:
        raise TypeError("a dense model needs targets of pixels")
    return field.targets


def _take(tokens: Tensor, part: Rows) -> Tensor:
    return tokens[torch.from_numpy(part).to(tokens.device)]


def _column(values: npt.NDArray[np.bool_], like: Tensor) -> Tensor:
    return torch.from_numpy(values).to(like)[:, None]
