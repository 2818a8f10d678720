"""``<id>.diff.png``: both results over the slide, and beside them where they agree."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from xt_backend.keys import RESEARCH_USE
from xt_backend.outputs.diff.comparison import SlideDiff
from xt_backend.outputs.diff.matching import Matching
from xt_backend.outputs.overlay import paint_cells, painted
from xt_backend.outputs.palette import rgb
from xt_backend.outputs.slide_frame import SlideFrame, framed
from xt_backend.outputs.text import visible
from xt_backend.publishing import publish
from xt_backend.slides.lattice import Lattice
from xt_backend.slides.thumbnail import Thumbnail
from xt_backend.store.score_map import ScoreMap

__all__ = ["write_diff_picture"]

_PANEL_PX = 560
_GAP, _LINE, _FONT_PX = 16, 24, 16
_PAPER, _INK, _FAINT = (255, 255, 255), (30, 30, 30), (110, 110, 110)
_BLANK = 245
_MOST_LETTERS = 40
_AGREE, _DIFFER, _ONLY_A, _ONLY_B = "#56b4e9", "#d55e00", "#f0e442", "#cc79a7"
"""Of Okabe and Ito, whom colour-blind people can follow."""

Pixels = npt.NDArray[np.uint8]


def write_diff_picture(
    path: Path, diff: SlideDiff, a: Thumbnail | None = None, b: Thumbnail | None = None
) -> None:
    """Publish three panels: classes of A, classes of B, and where they agree and differ.

    Args:
        path: Where it should go.
        diff: What to draw.
        a: The slide of A; None draws on grey.
        b: The slide of B.

    Raises:
        OutputError: It cannot be written.
    """
    frames = [_frame(diff.a, a), _frame(diff.b, b)]
    panels = [painted(frame, m) for frame, m in zip(frames, (diff.a, diff.b), strict=True)]
    if diff.matching is not None:
        panels.append(_agreement(diff, diff.matching, frames))
    image = _laid_out(panels, diff)
    with publish(path) as temp:
        image.save(temp, format="PNG")


def _frame(score_map: ScoreMap, thumbnail: Thumbnail | None) -> SlideFrame:
    if thumbnail is None:
        shrink = max(score_map.width_px, score_map.height_px) / _PANEL_PX
        sides = score_map.height_px, score_map.width_px
        height, width = (max(1, round(side / shrink)) for side in sides)
        blank = np.full((height, width, 3), _BLANK, np.uint8)
        scales = score_map.width_px / width, score_map.height_px / height
        return framed(score_map, blank, *scales, _PANEL_PX, _PANEL_PX)
    scales = thumbnail.scale_x, thumbnail.scale_y
    return framed(score_map, thumbnail.rgb, *scales, _PANEL_PX, _PANEL_PX)


def _agreement(diff: SlideDiff, matching: Matching, frames: list[SlideFrame]) -> Pixels:
    """Drawn on the slide of the finer regions; over it those that only the other one has."""
    labels_a = np.array([*diff.a.classes, ""], object)[diff.a.labels()[matching.rows_a]]
    labels_b = np.array([*diff.b.classes, ""], object)[diff.b.labels()[matching.rows_b]]
    fine, coarse, frame = (diff.a, diff.b, frames[0])
    rows, only_fine, only_coarse = matching.rows_a, matching.only_a, matching.only_b
    colors = [_AGREE, _DIFFER, _ONLY_A]
    color_coarse = _ONLY_B
    if not matching.a_is_finer:
        fine, coarse, frame = diff.b, diff.a, frames[1]
        rows, only_fine, only_coarse = matching.rows_b, matching.only_b, matching.only_a
        colors, color_coarse = [_AGREE, _DIFFER, _ONLY_B], _ONLY_A
    lattice = _transferred(coarse.lattice, fine.lattice)
    cells = coarse.cells[only_coarse]
    cells = cells[(cells < [lattice.n_cols, lattice.n_rows]).all(axis=1)]
    rgb_below = paint_cells(frame, lattice, cells, np.zeros(len(cells), int), [color_coarse])
    below = SlideFrame(rgb_below, frame.x0_px, frame.y0_px, frame.step_x, frame.step_y)
    kinds = np.concatenate([(labels_a != labels_b).astype(int), np.full(len(only_fine), 2)])
    where = fine.cells[np.concatenate([rows, only_fine])]
    return paint_cells(below, fine.lattice, where, kinds, colors)


def _transferred(lattice: Lattice, onto: Lattice) -> Lattice:
    """The same um from the corner, on another file of the tissue."""
    return Lattice(
        onto.origin_px,
        onto.extent_px,
        lattice.region_px,
        lattice.stride_px,
        lattice.model_mpp,
        onto.slide_mpp,
    )


def _laid_out(panels: list[Pixels], diff: SlideDiff) -> Image.Image:
    font = ImageFont.load_default(_FONT_PX)
    names = [f"A: {diff.a.model_name}", f"B: {diff.b.model_name}", "where they agree"]
    keys = [
        _class_lines(diff.a),
        _class_lines(diff.b),
        _agreement_lines(diff) if diff.matching is not None else [],
    ]
    texts = [[_short(text) for text, _ in lines] for lines in keys]
    widths = [
        max(
            panel.shape[1],
            *(math.ceil(font.getlength(text)) + 2 * _LINE for text in (*known, _short(name))),
        )
        for panel, known, name in zip(panels, texts, names, strict=False)
    ]
    top = 2 * _LINE + _GAP
    under = top + max(panel.shape[0] for panel in panels) + _GAP
    height = under + (max(map(len, keys)) + 2) * _LINE
    image = Image.new("RGB", (sum(widths) + _GAP * (len(widths) + 1), height), _PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((_GAP, _GAP), _short(diff.a.slide_name), _INK, font)
    x = _GAP
    for panel, width, name, lines, known in zip(panels, widths, names, keys, texts, strict=False):
        draw.text((x, _GAP + _LINE), _short(name), _INK, font)
        image.paste(Image.fromarray(panel), (x, top))
        for number, ((_, color), text) in enumerate(zip(lines, known, strict=True)):
            y = under + number * _LINE
            draw.rectangle((x, y, x + _FONT_PX, y + _FONT_PX), rgb(color), _FAINT)
            draw.text((x + _LINE, y), text, _INK, font)
        x += width + _GAP
    draw.text((_GAP, height - _LINE - _GAP // 2), RESEARCH_USE, _FAINT, font)
    return image


def _class_lines(score_map: ScoreMap) -> list[tuple[str, str]]:
    labels = score_map.labels()
    counts = np.bincount(labels[labels >= 0], minlength=len(score_map.classes)).tolist()
    rows = zip(score_map.classes, counts, score_map.colors, strict=True)
    return [(f"{name}: {count:,}", color) for name, count, color in rows]


def _agreement_lines(diff: SlideDiff) -> list[tuple[str, str]]:
    if diff.matching is None:
        return []
    total, same = diff.regions.total, int(np.trace(diff.regions.counts))
    share = f" ({same / total:.1%})" if total else ""
    return [
        (f"same class: {same:,}{share}", _AGREE),
        (f"another class: {total - same:,}", _DIFFER),
        (f"in A only: {len(diff.matching.only_a):,}", _ONLY_A),
        (f"in B only: {len(diff.matching.only_b):,}", _ONLY_B),
    ]


def _short(text: str) -> str:
    text = visible(text)
    return text if len(text) <= _MOST_LETTERS else text[: _MOST_LETTERS - 1] + "…"
