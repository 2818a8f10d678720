"""Bringing a viewer from pixels to um once the slide's pixel size is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xt.layers import UNITS

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from xt_backend.slides import SlideInfo

__all__ = ["look_at_bounds", "use_um"]


def use_um(viewer: ViewerModel, slide: Layer, slide_mpp: tuple[float, float]) -> None:
    """Scale a slide that is shown in px, and what lies over it in px, to um.

    Nothing moves on the screen: the camera goes along. A slide in um stays as it is.

    Args:
        viewer: Holds the slide.
        slide: Layer of the slide.
        slide_mpp: (x, y) um per level-0 px.
    """
    if not _in_px(slide):
        return
    factor = np.array([slide_mpp[1], slide_mpp[0]])
    for layer in [layer for layer in viewer.layers if _in_px(layer) and layer.ndim == 2]:
        layer.scale = layer.scale * factor
        layer.translate = layer.translate * factor
        layer.units = UNITS
    _camera(viewer, factor)
    slide.name = slide.name.removesuffix(" (pixel size unknown)")


def _in_px(layer: Layer) -> bool:
    return all(str(unit) == "pixel" for unit in layer.units)


def look_at_bounds(viewer: ViewerModel, slide: Layer, info: SlideInfo) -> None:
    """Bring the scanned part into view, when the whole layer has just been fitted.

    Slides with bounds are mostly empty glass outside of them.
    """
    x_px, y_px, width_px, height_px = info.bounds_px
    camera = _camera_of(viewer)
    middle = slide.data_to_world((y_px + height_px / 2 - 0.5, x_px + width_px / 2 - 0.5))
    camera.center = tuple(middle)
    camera.zoom = camera.zoom * min(info.height_px / height_px, info.width_px / width_px)


def _camera(viewer: ViewerModel, factor: Any) -> None:
    camera = _camera_of(viewer)
    centre = np.array(camera.center, float)
    centre[-2:] *= factor
    camera.center = tuple(centre)
    camera.zoom = camera.zoom / float(factor.mean())


def _camera_of(viewer: Any) -> Any:
    scene = getattr(viewer, "scene", None)  # napari >= 0.9; before, the viewer holds the camera
    return viewer.camera if scene is None else scene.camera
