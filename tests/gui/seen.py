"""What a widget looks like, in numbers."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image
from qtpy.QtCore import QBuffer, QByteArray, QIODevice
from qtpy.QtWidgets import QWidget

__all__ = ["contrast", "lightness", "lightness_of"]


def lightness_of(widget: QWidget) -> Any:
    """(h, w) relative luminance of what a widget shows, 0 to 1, as WCAG counts it."""
    data = QByteArray()
    buffer = QBuffer(data)
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    widget.grab().save(buffer, "PNG")  # the same with every binding of Qt
    with Image.open(io.BytesIO(bytes(data.data()))) as picture:
        return lightness(np.asarray(picture.convert("RGB")) / 255)


def lightness(share: Any) -> Any:
    """Relative luminance of (..., 3) red, green and blue, 0 to 1."""
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return linear @ (0.2126, 0.7152, 0.0722)


def contrast(light: Any) -> float:
    """Of the most different pixel and the commonest one, as WCAG counts it: small text needs 4.5.

    Args:
        light: Of `lightness_of`.
    """
    values, counts = np.unique(light.round(3), return_counts=True)
    ground = values[counts.argmax()]
    ratios = (np.maximum(light, ground) + 0.05) / (np.minimum(light, ground) + 0.05)
    return float(ratios.max())
