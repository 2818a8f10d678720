"""Clean-up of masks; a step applied to a larger mask never gives less."""

from __future__ import annotations

import numpy as np
from scipy import ndimage as ndi
from skimage.measure import label

from xt_backend.slides.box_filter import box_least, box_most
from xt_backend.slides.glass import Mask

__all__ = ["box_dilate", "enclosed", "without_gaps", "without_specks"]

_COARSE_PX = 5


def without_specks(mask: Mask, n_px: float) -> Mask:
    """Drops the parts of a mask (h, w) that have fewer than `n_px` pixels."""
    labels = label(mask, connectivity=2)
    keep = np.bincount(labels.ravel()) >= n_px
    keep[0] = False
    return np.asarray(keep[labels], bool)


def enclosed(mask: Mask) -> Mask:
    """What is not in the mask and has no way to the border of the picture."""
    labels, n_parts = label(~mask, connectivity=1, return_num=True)
    is_open = np.zeros(n_parts + 1, bool)
    is_open[0] = True
    for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        is_open[side] = True
    return np.asarray(~is_open[labels], bool)


def box_dilate(mask: Mask, half_px: int) -> Mask:
    """Grows a mask (h, w) by a square of 2 `half_px` + 1."""
    grown = box_most(mask.view(np.uint8), 2 * half_px + 1)
    return grown.view(bool)


def without_gaps(mask: Mask, half_px: int) -> Mask:
    """Fills the gaps that an octagon 2 `half_px` wide does not fit into.

    Beyond the border of the picture, everything goes on as at the border. Wide octagons are
    fitted on a coarser mask.
    """
    step = -(-half_px // _COARSE_PX)
    if step == 1:
        return _octagon_close(mask, half_px)
    height, width = mask.shape
    padded = np.pad(mask, ((0, -height % step), (0, -width % step)))
    blocks = padded.reshape(padded.shape[0] // step, step, padded.shape[1] // step, step)
    touched = np.asarray(blocks.any(axis=(1, 3)), bool)
    closed = _octagon_close(touched, round(half_px / step))
    # Blocks at the rim of the tissue are only partly tissue and stay as they are.
    inner = box_least(closed.view(np.uint8), 3).view(bool)
    fine = inner.repeat(step, axis=0).repeat(step, axis=1)[:height, :width]
    return np.asarray(mask | fine, bool)


def _octagon_close(mask: Mask, half_px: int) -> Mask:
    diamond_px = round(0.586 * half_px)
    box_px = 2 * (half_px - diamond_px) + 1
    margin = 2 * half_px
    grown = np.pad(mask, margin, mode="edge")
    if diamond_px:
        grown = ndi.binary_dilation(grown, iterations=diamond_px)
    grown = box_most(grown.view(np.uint8), box_px).view(bool)
    shrunk = box_least(grown.view(np.uint8), box_px).view(bool)
    if diamond_px:
        shrunk = ndi.binary_erosion(shrunk, iterations=diamond_px, border_value=1)
    return np.asarray(shrunk[margin:-margin, margin:-margin], bool)
