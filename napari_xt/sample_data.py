"""File > Open Sample: a synthetic slide, made once and kept in the user's cache folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    LayerData = tuple[Any, dict[str, Any], str]

__all__ = ["sample_folder", "sample_slide"]


def sample_folder() -> Path:
    """Where sample slides are kept: ``samples`` in the user's cache folder."""
    import platformdirs

    from xt_backend.keys import PRODUCT

    return platformdirs.user_cache_path(PRODUCT, appauthor=False) / "samples"
