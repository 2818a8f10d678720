"""An image layer of another plugin as pixels that a model can look at, or why it is none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xt.any_image.channels import Joined, joined_colours, plane_of
from napari_xt.slide_layers import pyramid_of
from xt_backend.errors import UnsupportedSlideError
from xt_backend.keys import PRODUCT

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.layers import Image

    Pixels = npt.NDArray[np.uint8]

__all__ = ["ImageSource", "is_foreign"]

STRIP_PX = 512
_COLOURS = "Models know colour images of stained tissue (RGB); scan or export the slide in colour"


def is_foreign(layer: Any) -> bool:
    """Whether a layer is an image that neither is a slide of ours nor a result."""
    from napari.layers import Image

    if not isinstance(layer, Image) or pyramid_of(layer) is not None:
        return False
    return PRODUCT not in layer.metadata


@dataclass(frozen=True)
class ImageSource:
    """The finest level of an RGB image.

    Attributes:
        data: (h, w, 3 or 4) array-like, uint8, or float from 0 to 1.
        mpp: (x, y) um/px; None where the layer is in pixels.
        translate_um: (y, x) of the layer; in px where there is no pixel size.
        name: What it is called.
        layers: That show it: one, or those of red, green and blue.
    """

    data: Any
    mpp: tuple[float, float] | None
    translate_um: tuple[float, float]
    name: str
    layers: tuple[Image, ...]

    @classmethod
    def of(cls, layer: Image, others: Iterable[Any] = ()) -> ImageSource:
        """Look at a layer.

        Args:
            layer: A colour image, or one colour of one.
            others: Where its other colours may be.

        Raises:
            UnsupportedSlideError: It is no colour image; the text says why, and what to do.
        """
        name, shown = layer.name, [layer]
        colours = None if layer.rgb else joined_colours(layer, others)
        if colours is not None:
            name, shown = Path(str(layer.source.path)).name, [*colours]
        elif not layer.rgb:
            channels = "several channels or planes" if layer.ndim > 2 else "one channel"
            raise UnsupportedSlideError(
                f"{name} has {channels} of brightness, as fluorescence or a grey scan has", _COLOURS
            )
        planes = [plane_of(one) for one in shown]
        if any(plane is None for plane in planes):
            raise UnsupportedSlideError(
                f"{name} is a stack of {layer.ndim} dimensions", "Open a single plane of it"
            )
        data = planes[0] if colours is None else Joined((planes[0], planes[1], planes[2]))
        kind = np.dtype(data.dtype)
        if kind != np.uint8 and kind.kind != "f":
            raise UnsupportedSlideError(
                f"{name} has {8 * kind.itemsize} bits a colour, and does not say which of them is "
                "white",
                "Convert it to 8 bits a colour",
            )
        _check_place(layer)
        factors = [_um(unit) for unit in layer.units[-2:]]
        scale, shift = np.array(layer.scale[-2:]), np.array(layer.translate[-2:])
        shift += layer.affine.translate[-2:]
        if None in factors:
            return cls(data, None, (float(shift[0]), float(shift[1])), name, tuple(shown))
        scale, shift = scale * factors, shift * factors
        mpp = float(scale[1]), float(scale[0])
        return cls(data, mpp, (float(shift[0]), float(shift[1])), name, tuple(shown))

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height."""
        return int(self.data.shape[1]), int(self.data.shape[0])

    @property
    def n_bytes(self) -> int:
        """Bytes of all levels, before they are packed."""
        width, height = self.size_px
        return width * height * 3 * 16 // 15

    def strips(self, on_rows: Callable[[int], None] = lambda done: None) -> Iterator[Pixels]:
        """The pixels from top to bottom, (h, width, 3) uint8; what is transparent is white.

        Args:
            on_rows: Told how many rows have been read.
        """
        height = self.size_px[1]
        for top in range(0, height, STRIP_PX):
            rows = np.asarray(self.data[top : top + STRIP_PX])
            if rows.dtype != np.uint8:
                rows = np.round(np.clip(np.nan_to_num(rows), 0.0, 1.0) * 255).astype(np.uint8)
            if rows.shape[2] == 4:
                opaque = rows[..., 3:].astype(np.uint16)
                mixed = rows[..., :3] * opaque + 255 * (255 - opaque)
                rows = ((mixed + 127) // 255).astype(np.uint8)
            on_rows(min(height, top + STRIP_PX))
            yield np.ascontiguousarray(rows[..., :3])


def _check_place(layer: Image) -> None:
    """Refuse what a copy would lay elsewhere, or show the other way round.

    Raises:
        UnsupportedSlideError: The layer is mirrored, or stretched or turned by an affine.
    """
    if any(step <= 0 for step in layer.scale[-2:]):
        raise UnsupportedSlideError(
            f"{layer.name} is mirrored: its scale is negative",
            "Give it a positive scale, or mirror the image itself",
        )
    if not np.allclose(layer.affine.linear_matrix, np.eye(layer.ndim)):
        raise UnsupportedSlideError(
            f"{layer.name} is placed by an affine, which may stretch its pixels",
            "Open it without, or set scale, translate and rotate instead",
        )


def _um(unit: Any) -> float | None:
    """Micrometres of a unit of length; None for pixels and everything else."""
    if not unit.is_compatible_with("micrometer"):
        return None
    return float((1 * unit).to("micrometer").magnitude)
