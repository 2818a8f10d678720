"""Clicks on the slide: where somebody pressed and let go without dragging."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.components import ViewerModel

__all__ = ["Clicks"]

_STILL_PX = 4
"""A hand that moves the mouse less than that between press and release has not dragged."""

_PASSIVE = ("pan_zoom", "transform")


class Clicks:
    """Tells of clicks while nobody draws.

    Args:
        viewer: Whose canvas.
        wanted: Whether anybody listens now.
        on_click: Given the place in world coordinates.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        wanted: Callable[[], bool],
        on_click: Callable[[tuple[float, ...]], None],
    ) -> None:
        self._viewer = viewer
        self._wanted = wanted
        self._on_click = on_click
        viewer.mouse_drag_callbacks.append(self._follow)

    def stop(self) -> None:
        """Tell of no more."""
        # As Python ends, the viewer may have been emptied before its window goes; PyQt6 takes an
        # error in a slot for the end of the process.
        followers = getattr(self._viewer, "mouse_drag_callbacks", [])
        if self._follow in followers:
            followers.remove(self._follow)

    def _follow(self, viewer: ViewerModel, event: Any) -> Iterator[None]:
        active = viewer.layers.selection.active
        drawing = str(getattr(active, "mode", "pan_zoom")) not in _PASSIVE
        if event.button != 1 or event.modifiers or drawing or not self._wanted():
            return
        place, pressed = tuple(event.position), tuple(event.pos)
        yield
        while event.type == "mouse_move":
            if max(abs(a - b) for a, b in zip(event.pos, pressed, strict=True)) > _STILL_PX:
                return
            yield
        self._on_click(place)
