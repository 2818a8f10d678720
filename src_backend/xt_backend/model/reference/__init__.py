"""Layout ``reference``: the blocks and the model of the xT reference implementation.

Everything here computes what the reference computes, under the names that the reference gives its
parameters, so that its checkpoints can be used. Models of our own are built by `xt_backend.model`.
"""

from __future__ import annotations

from xt_backend.model.reference.mamba import MambaBlock, mamba_block
from xt_backend.model.reference.transformer_xl import TransformerXL, transformer_xl
from xt_backend.model.reference.xt import ReferenceXT

__all__ = ["MambaBlock", "ReferenceXT", "TransformerXL", "mamba_block", "transformer_xl"]
