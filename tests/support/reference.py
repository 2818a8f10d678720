"""Small checkpoints in the form of the xT reference, with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from xt_backend.model import ClassInfo, ContextInfo, EncoderInfo, ModelCard, ReferenceXT
from xt_backend.model.state import fill_random

BACKBONE = "swinv2_tiny_window8_256"
BACKBONE_ARGS: dict[str, Any] = {
    "embed_dim": 8,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 2, 2],
    "window_size": 4,
}
SIZES = {
    "hyper": {"mlp_dim": 64},
    "mamba": {"inner": 256, "state": 4, "conv": 4, "step_rank": 8},
}
REGION_PX = 64


def reference_model(context: str = "hyper", layers: int = 2, **fields: Any) -> ReferenceXT:
    """64 px regions, tokens of 128, 3 classes; no weight is constant."""
    card = ModelCard(
        **{
            "name": "reference",
            "layout": "reference",
            "classes": tuple(ClassInfo(name=name, color="#0072b2") for name in ("a", "b", "c")),
            "region_px": REGION_PX,
            "input_px": REGION_PX,
            "crop_px": 2 * REGION_PX,
            "tokens_per_region": 2,
            "region_encoder": EncoderInfo(name=BACKBONE, backbone_args=BACKBONE_ARGS),
            "context": ContextInfo(kind=context, dim=128, layers=layers, options=SIZES[context]),
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
            **fields,
        }
    )
    model = ReferenceXT(card)
    fill_random(model, 5)
    generator = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def write_checkpoint(path: Path, context: str = "hyper", **extra: Any) -> ReferenceXT:
    """Write one as the reference's trainer does (.ckpt), or its state dict alone (.safetensors)."""
    model = reference_model(context)
    state = model.state_dict()
    if path.suffix == ".safetensors":
        save_file(state, path)
        return model
    wrapped = {f"module.{name}": value for name, value in state.items()}
    torch.save({"epoch": 3, "state_dict": wrapped, "optimizer_state_dict": {}, **extra}, path)
    return model
