"""Where a slide has tissue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from xt_backend.errors import UsageError
from xt_backend.slides.glass import Mask
from xt_backend.slides.morphology import box_dilate, enclosed, without_gaps, without_specks
from xt_backend.slides.stain import Evidence, weigh
from xt_backend.slides.thumbnail import Thumbnail

__all__ = ["DEFAULT_SENSITIVITY", "Kind", "Tissue", "find_tissue", "kind_of", "tissue_at"]

DEFAULT_SENSITIVITY = 0.5

Kind = Literal["partial", "all", "none"]

_WORTH_A_WORD = 1e-3
_SPECK_UM2 = 1e4
_SPECK_SHARE = 5e-5
_SPECK_MAX_SHARE = 5e-3
# The walls of fat come in pieces, which are specks until the gaps between them are filled.
_PIECE = 1 / 60


@dataclass(frozen=True)
class Tissue:
    """Which parts of a slide are tissue; its origin is the slide's level-0 pixel (0, 0).

    Attributes:
        mask: (h, w) bool.
        scale_x: Level-0 px per mask pixel along x.
        scale_y: Level-0 px per mask pixel along y.
        kind: ``all`` where no part of the slide is left out, ``none`` where nothing is left.
        glass_rgb: Colour of the bare glass, None where none was looked for or none is in view.
        reason: Why the mask is as it is, one sentence without full stop.
        n_slide_px: Mask pixels in which the slide has pixels at all.
    """

    mask: Mask
    scale_x: float
    scale_y: float
    kind: Kind
    glass_rgb: tuple[int, int, int] | None
    reason: str
    n_slide_px: int

    def fraction(self) -> float:
        """Share of the slide's pixels that are tissue, 0 to 1."""
        return np.count_nonzero(self.mask) / self.n_slide_px if self.n_slide_px else 0.0


def find_tissue(
    thumbnail: Thumbnail,
    *,
    sensitivity: float = DEFAULT_SENSITIVITY,
    slide_mpp: float | None = None,
) -> Tissue:
    """Finds the tissue of a bright-field slide, whatever the stain.

    Everything that differs from the bare glass is tissue, but for ink, black frames, specks
    below 100 x 100 um and grey dirt on the glass. Gaps up to 128 um wide belong to the tissue
    around them. Where no glass is in view, all is tissue; so is what could not be read, so that
    its regions are tried and reported.

    Args:
        thumbnail: The whole slide; about 1000 px is enough.
        sensitivity: 0 to 1. How little a place may differ from glass and still be tissue: 0
            asks for four times the default's difference, 1 for a quarter of it. A higher value
            never loses a pixel that a lower one has.
        slide_mpp: um per level-0 px; None uses shares of the picture instead of um.

    Raises:
        UnsupportedSlideError: Fluorescence or dark-field.
        UsageError: `sensitivity` is not from 0 to 1.
    """
    return tissue_at(thumbnail, weigh(thumbnail, slide_mpp=slide_mpp), sensitivity=sensitivity)


def tissue_at(
    thumbnail: Thumbnail, evidence: Evidence, *, sensitivity: float = DEFAULT_SENSITIVITY
) -> Tissue:
    """Cuts `weigh`'s evidence for the same thumbnail; quick enough for a slider.

    Raises:
        UsageError: `sensitivity` is not from 0 to 1.
    """
    if not 0 <= sensitivity <= 1:
        raise UsageError(f"a tissue sensitivity of {sensitivity} was given", "Give 0 to 1")
    mask = evidence.seen & ~evidence.foreign
    if evidence.glass is not None or evidence.is_black:
        mask = _cut(evidence, mask, 4 ** (1 - 2 * sensitivity))
    mask |= evidence.unreadable
    slide = evidence.seen | evidence.unreadable
    return Tissue(
        mask,
        thumbnail.scale_x,
        thumbnail.scale_y,
        kind_of(mask, slide),
        evidence.glass.rgb if evidence.glass else None,
        _reason(evidence, mask, slide),
        int(np.count_nonzero(slide)),
    )


def _cut(evidence: Evidence, candidates: Mask, threshold: float) -> Mask:
    # Each step keeps what it would keep of a smaller mask: that makes the sensitivity monotone.
    mask = candidates & (evidence.stain > threshold)
    if evidence.is_coloured:
        near = box_dilate(mask & (evidence.colour > threshold), min(evidence.gap_px, 20) + 2)
        # Black pigment is as grey as dirt, but lies inside the tissue.
        mask &= near | enclosed(mask & near)
    speck_px = _speck_px(evidence)
    mask = without_specks(mask, _PIECE * speck_px)
    mask = without_gaps(mask, evidence.gap_px) & candidates
    return without_specks(mask, speck_px)


def _reason(evidence: Evidence, mask: Mask, slide: Mask) -> str:
    rgb = evidence.glass.rgb if evidence.glass else None
    if not slide.any():
        return "the slide holds no pixels"
    if not mask.any():
        if evidence.is_black:
            return "the slide is black everywhere"
        return "the slide shows nothing but " + ("glass" if rgb else "ink or black")
    reason = "no glass is in view, so that everything counts as tissue"
    if rgb:
        reason = f"tissue is what differs from glass of the colour {rgb}"
    foreign = np.count_nonzero(evidence.foreign & evidence.seen) / np.count_nonzero(slide)
    if foreign >= _WORTH_A_WORD:
        reason += f", without ink and black ({foreign:.1%} of the slide)"
    if evidence.unreadable.any():
        reason += ", and what could not be read"
    return reason


def kind_of(mask: Mask, slide: Mask) -> Kind:
    """How much of the slide's pixels a mask keeps; both (h, w)."""
    if not mask.any():
        return "none"
    return "all" if mask[slide].all() else "partial"


def _speck_px(evidence: Evidence) -> float:
    size = evidence.seen.size
    wanted = _SPECK_SHARE * size
    if evidence.um_per_px:
        wanted = _SPECK_UM2 / evidence.um_per_px**2
    return max(4.0, min(wanted, _SPECK_MAX_SHARE * size))
