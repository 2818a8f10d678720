"""Bringing a viewer from pixels to um once the slide's pixel size is known."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xt.layers import DRAWN, SHOWN_MPP, UNITS, UNKNOWN_MPP
from napari_xt.slide_layers import pyramid_of, unwrapped
from xt_backend.keys import PRODUCT

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari import Viewer
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_xt.pyramid import Pyramid
    from xt_backend.slides import SlideInfo

__all__ = [
    "look_at_bounds",
    "look_at_first_slide",
    "scene_of",
    "show_scale_bar",
    "shown_mpp",
    "slide_frame",
    "use_mpp",
]

_with_scale_bar: weakref.WeakSet[Any] = weakref.WeakSet()
"""Layer lists of viewers whose scale bar was switched on; it is the user's from then on."""


def shown_mpp(slide: Layer) -> tuple[float, float] | None:
    """(x, y) um per level-0 px that a slide is shown with, None while it is shown in px."""
    if _in_px(slide):
        return None
    facts = slide.metadata.get(PRODUCT, {})
    mpp = facts.get(SHOWN_MPP)
    # A layer that lost its metadata was made from another one's data: scale is all there is.
    return (slide.scale[-1], slide.scale[-2]) if mpp is None else (mpp[0], mpp[1])


def use_mpp(viewer: ViewerModel, slide: Layer, slide_mpp: tuple[float, float], source: str) -> None:
    """Show a slide, and what was drawn on it, with this pixel size, in um.

    Nothing moves on the screen: the camera goes along. Other slides and results keep their
    places; results are in um of their own.

    Args:
        viewer: Holds the slide.
        slide: Layer of the slide, in px or with an earlier pixel size.
        slide_mpp: (x, y) um per level-0 px.
        source: Where that comes from, as in `SlideMpp`.
    """
    before = shown_mpp(slide)
    if before is not None and np.allclose(before, slide_mpp, rtol=1e-9):
        return
    factor = np.array(slide_mpp[::-1]) / (1.0 if before is None else np.array(before[::-1]))
    pyramid = pyramid_of(slide)
    for layer in [layer for layer in viewer.layers if _lies_on(layer, slide, pyramid)]:
        layer.scale = layer.scale * factor
        layer.translate = layer.translate * factor
        layer.units = UNITS
        if pyramid_of(layer) is not None:
            facts = layer.metadata.get(PRODUCT, {})
            told = {SHOWN_MPP: [float(value) for value in slide_mpp], "mpp_source": source}
            layer.metadata = {**layer.metadata, PRODUCT: {**facts, **told}}
    _camera(viewer, factor)
    show_scale_bar(viewer)
    slide.name = slide.name.removesuffix(UNKNOWN_MPP)


def _lies_on(layer: Layer, slide: Layer, pyramid: Pyramid | None) -> bool:
    """Whether a layer is the slide, another layer of it, or something drawn on it by hand."""
    if layer.ndim != 2 or _in_px(layer) != _in_px(slide):
        return False
    other = pyramid_of(layer)
    if other is not None:
        return other is pyramid
    facts = layer.metadata.get(PRODUCT)
    return facts is None or DRAWN in facts  # else it is a result


def slide_frame(slide: Layer, slide_mpp: tuple[float, float]) -> npt.NDArray[np.float64]:
    """(3, 3) affine from um, counted from the middle of the slide's first pixel, to the world.

    The identity, unless the slide's layer was moved or turned by hand.

    Args:
        slide: Layer of the slide, shown with `slide_mpp`.
        slide_mpp: (x, y) um per level-0 px.
    """
    y_mpp, x_mpp = slide_mpp[1], slide_mpp[0]
    corner, down, right = (
        np.asarray(slide.data_to_world(place))[-2:] for place in ((0, 0), (1, 0), (0, 1))
    )
    frame = np.eye(3)
    frame[:2, 0], frame[:2, 1], frame[:2, 2] = (
        (down - corner) / y_mpp,
        (right - corner) / x_mpp,
        corner,
    )
    return np.eye(3) if np.allclose(frame, np.eye(3), rtol=0, atol=1e-6) else frame


def _in_px(layer: Layer) -> bool:
    return all(str(unit) == "pixel" for unit in layer.units)


def look_at_first_slide(viewer: Viewer) -> None:
    """Bring the first slide's scanned part into view: napari fits before its columns are laid out.

    Without slides, everything is brought into view.
    """
    viewer.reset_view()
    slide = next((layer for layer in viewer.layers if pyramid_of(layer) is not None), None)
    pyramid = pyramid_of(slide)
    if slide is not None and pyramid is not None and pyramid.info.has_bounds:
        look_at_bounds(viewer, slide, pyramid.info)


def look_at_bounds(viewer: ViewerModel, slide: Layer, info: SlideInfo) -> None:
    """Bring the scanned part into view, when the whole layer has just been fitted.

    Slides with bounds are mostly empty glass outside of them.
    """
    x_px, y_px, width_px, height_px = info.bounds_px
    camera = scene_of(viewer).camera
    middle = slide.data_to_world((y_px + height_px / 2 - 0.5, x_px + width_px / 2 - 0.5))
    camera.center = tuple(middle)
    camera.zoom = camera.zoom * min(info.height_px / height_px, info.width_px / width_px)


def show_scale_bar(viewer: ViewerModel) -> None:
    """Switch the scale bar on with the first slide in um; who switches it off is obeyed."""
    viewer = unwrapped(viewer)
    if viewer.layers in _with_scale_bar:
        return
    _with_scale_bar.add(viewer.layers)
    canvas = getattr(viewer, "canvas", None)  # napari >= 0.9; before, the viewer holds the bar
    (viewer if canvas is None else canvas.overlays).scale_bar.visible = True


def _camera(viewer: ViewerModel, factor: Any) -> None:
    camera = scene_of(viewer).camera
    centre = np.array(camera.center, float)
    centre[-2:] *= factor
    camera.center = tuple(centre)
    camera.zoom = camera.zoom / float(factor.mean())


def scene_of(viewer: Any) -> Any:
    """What holds the camera: before napari 0.9 the viewer itself."""
    scene = getattr(viewer, "scene", None)
    return viewer if scene is None else scene
