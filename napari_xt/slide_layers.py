"""Slides of layers: which layer shows which slide, and letting go of the files."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from napari_xt.level import Level

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

    from napari_xt.pyramid import Pyramid
    from napari_xt.refresh import Refresher

__all__ = [
    "PANEL",
    "add_over",
    "has_panel",
    "layers_of",
    "panel_of",
    "pyramid_of",
    "unwrapped",
    "watch_current_viewer",
    "watch_viewer",
]

PANEL = "Run xT"
"""The panel's name in the manifest; napari adds the plugin's to it."""

_watched: weakref.WeakKeyDictionary[Any, Refresher | None] = weakref.WeakKeyDictionary()


def pyramid_of(layer: Any) -> Pyramid | None:
    """The slide behind a layer, None for layers of other origin."""
    if not getattr(layer, "multiscale", False):
        return None
    first = layer.data[0]
    return first.pyramid if isinstance(first, Level) else None


def layers_of(viewer: ViewerModel, pyramid: Pyramid) -> list[Any]:
    """The layers of a viewer that show this slide."""
    return [layer for layer in viewer.layers if pyramid_of(layer) is pyramid]


def unwrapped(viewer: Any) -> Any:
    """The viewer itself: napari gives plugins' widgets a wrapper, anew each time."""
    return getattr(viewer, "__wrapped__", viewer)


def has_panel(viewer: Any) -> bool:
    """Whether the panel `Run xT` is open in a viewer."""
    docked = getattr(getattr(viewer, "window", None), "dock_widgets", ())  # not in all versions
    return any(name.startswith(PANEL) for name in docked)


def panel_of(viewer: Any) -> Any:
    """The panel `Run xT` of a viewer's window, opened if it is not."""
    from xt_backend.keys import PRODUCT

    for name, dock in viewer.window.dock_widgets.items():
        if name.startswith(PANEL):
            return getattr(dock, "inner_widget", lambda widget=dock: widget)()
    _, panel = viewer.window.add_plugin_dock_widget(PRODUCT, PANEL)
    return panel


def add_over(viewer: ViewerModel, layer: Layer, slide: Image | None) -> None:
    """Add a layer on top, but under the slides that lie over its own.

    Args:
        viewer: Gets the layer.
        layer: Something of a slide.
        slide: The slide's layer; None, or one that is not there, puts it on top of all.
    """
    layers = list(viewer.layers)
    above = layers[layers.index(slide) + 1 :] if slide in layers else []
    others = (other for other in above if pyramid_of(other) not in (None, pyramid_of(slide)))
    first = next(others, None)
    viewer.layers.insert(len(layers) if first is None else layers.index(first), layer)


def watch_viewer(viewer: ViewerModel) -> Refresher | None:
    """Look after the slides of a viewer.

    A slide's file is closed when its last layer leaves, the first slide's scanned part is brought
    into view and gets a scale bar, and with a window, tiles that come late are drawn when they
    come.
    """
    viewer = unwrapped(viewer)
    if viewer.layers in _watched:
        return _watched[viewer.layers]
    refresher = _refresher_of(viewer)
    _watched[viewer.layers] = refresher
    viewer_ref = weakref.ref(viewer)

    def on_inserted(event: Any) -> None:
        from napari_xt.world import look_at_bounds, show_scale_bar, shown_mpp

        pyramid, watched = pyramid_of(event.value), viewer_ref()
        if pyramid is None or watched is None:
            return
        if shown_mpp(event.value) is not None:
            show_scale_bar(watched)
        if len(watched.layers) == 1 and pyramid.info.has_bounds:
            look_at_bounds(watched, event.value, pyramid.info)

    # Last: napari's own handler fits the whole layer into the view.
    viewer.layers.events.inserted.connect(on_inserted, position="last")
    viewer.layers.events.removed.connect(_on_removed)
    return refresher


def watch_current_viewer(pyramid: Pyramid) -> None:
    """`watch_viewer` for the viewer that is being opened into, if there is one."""
    from napari import current_viewer

    viewer = current_viewer()
    refresher = None if viewer is None else watch_viewer(viewer)
    if refresher is not None:
        refresher.look_after(pyramid)


def _refresher_of(viewer: ViewerModel) -> Refresher | None:
    from napari import Viewer

    if not isinstance(viewer, Viewer):  # no window, nothing to keep from freezing
        return None
    from qtpy.QtWidgets import QApplication

    from napari_xt.refresh import Refresher

    application = QApplication.instance()
    refresher = Refresher(viewer, layers_of)
    if application is not None:
        application.aboutToQuit.connect(refresher.close_all)
    return refresher


def _on_removed(event: Any) -> None:
    pyramid = pyramid_of(event.value)
    if pyramid is None:
        return
    if not any(pyramid_of(layer) is pyramid for layer in event.source):
        # Should the layer come back, its next read opens the file again.
        pyramid.close()
