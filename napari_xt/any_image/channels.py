"""Three grey layers that are red, green and blue of one picture, as OME-Zarr readers open it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.layers import Image

__all__ = ["Joined", "joined_colours", "plane_of"]

_CHANNELS = 3


@dataclass(frozen=True)
class Joined:
    """Reads red, green and blue together; what is not asked for is not read.

    Attributes:
        parts: Each (h, w) array-like of one kind.
    """

    parts: tuple[Any, Any, Any]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, 3."""
        height, width = self.parts[0].shape
        return int(height), int(width), _CHANNELS

    @property
    def dtype(self) -> Any:
        """Of all parts."""
        return self.parts[0].dtype

    def __getitem__(self, rows: slice) -> npt.NDArray[Any]:
        return np.stack([np.asarray(part[rows]) for part in self.parts], axis=-1)


def joined_colours(layer: Image, layers: Iterable[Any]) -> tuple[Image, Image, Image] | None:
    """The layers that are red, green and blue of the file that a layer is a part of.

    Args:
        layer: One of them.
        layers: Where the others may be.

    Returns:
        In this order; None unless there is exactly one of each: of this file, in the same place, of
        the same size, and shown in its own pure colour.
    """
    if _colour(layer) is None or not layer.source.path:
        return None
    found: dict[int, list[Image]] = {index: [] for index in range(_CHANNELS)}
    for other in layers:
        if _belongs(other, layer):
            colour = _colour(other)
            if colour is not None:
                found[colour].append(other)
    if any(len(ones) != 1 for ones in found.values()):
        return None
    red, green, blue = (found[index][0] for index in range(_CHANNELS))
    return red, green, blue


def plane_of(layer: Image) -> Any:
    """The finest level of a layer without the dimensions before its plane; None of a real stack."""
    data = layer.data[0] if layer.multiscale else layer.data
    before = data.shape[: layer.ndim - 2]
    if any(size != 1 for size in before):
        return None
    return data[(0,) * len(before)] if before else data


def _belongs(other: Any, layer: Image) -> bool:
    if type(other) is not type(layer) or other.rgb or other.source.path != layer.source.path:
        return False
    return (
        other.ndim == layer.ndim
        and other.dtype == layer.dtype
        and tuple(other.level_shapes[0]) == tuple(layer.level_shapes[0])
        and other.units == layer.units
        and np.allclose(other.affine.affine_matrix, layer.affine.affine_matrix)
        and np.allclose(other.scale, layer.scale)
        and np.allclose(other.translate, layer.translate)
        and np.allclose(other.rotate, layer.rotate)
    )


def _colour(layer: Any) -> int | None:
    """0, 1 or 2 for a layer that goes from black to red, green or blue."""
    if layer.rgb:
        return None
    first, last = (np.asarray(layer.colormap.colors[at][:3]) for at in (0, -1))
    if first.any() or last.sum() != 1.0 or last.max() != 1.0:
        return None
    return int(last.argmax())
