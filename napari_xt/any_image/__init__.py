"""Running on images that another plugin opened: they are copied, without loss, into a slide."""

from .bar import ImageBar

__all__ = ["ImageBar"]
