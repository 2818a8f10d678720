"""The reference's use of timm: the last of the maps that a backbone gives, before its last norm."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from xt_backend.errors import ModelError
from xt_backend.model.backbone import Architecture, create_backbone, size_error
from xt_backend.model.seeding import seeded

__all__ = ["LastStage"]


class LastStage(nn.Module):
    """A timm backbone built with ``features_only``, of whose maps the last is taken.

    Args:
        architecture: Of timm.
        input_px: Side of its inputs.

    Attributes:
        dim: Channels of the map.
        side: Side of the map.
        feature_info: timm's, of all stages.

    Raises:
        ModelError: The backbone cannot be built so, or gives no square map for that size.
    """

    def __init__(self, architecture: Architecture, input_px: int) -> None:
        super().__init__()
        with seeded(None):
            self.model = create_backbone(architecture, input_px, features_only=True)
        stages = cast("Any", self.model).feature_info
        self.feature_info: list[dict[str, Any]] = list(stages.info)
        self.dim = int(stages.channels()[-1])
        self._channels_last = str(getattr(self.model, "output_fmt", "NCHW")).endswith("NHWC")
        self.eval()
        try:
            with torch.no_grad():
                shape = self(torch.zeros(1, 3, input_px, input_px)).shape
        except Exception as error:  # whatever a third-party forward raises
            raise size_error(architecture.name, input_px, architecture.native_px, error) from error
        self.side = int(shape[2])
        if tuple(shape) != (1, self.dim, self.side, self.side):
            raise ModelError(
                f"The last map of {architecture.name} has shape {tuple(shape)} for {input_px} px",
                "use a backbone that the xT reference has: Swin, Swin V2, Hiera or ConvNeXt",
            )

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, s, s) to (B, dim, side, side)."""
        last: Tensor = self.model(images)[-1]
        return last.permute(0, 3, 1, 2) if self._channels_last else last
