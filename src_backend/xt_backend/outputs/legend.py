"""What stands beside and below an overlay: what its colours mean, marks, scale bar."""

from __future__ import annotations

import math
from enum import IntEnum
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from xt_backend.keys import RESEARCH_USE, RegionStatus, RunMeta
from xt_backend.outputs.dots import dot_swatch
from xt_backend.outputs.mask_tiff import SlideMask
from xt_backend.outputs.palette import rgb
from xt_backend.outputs.points import point_kinds
from xt_backend.outputs.text import visible
from xt_backend.store.points import Points
from xt_backend.store.score_map import ScoreMap

__all__ = ["OUTLINE", "Found", "Mark", "draw_legend", "marks_of", "pattern", "scale_bar_um"]

OUTLINE = (60, 60, 60)
"""Colour of the line around what a model looked at."""

_PAPER, _INK, _FAINT = (255, 255, 255), (30, 30, 30), (110, 110, 110)
_MOST_LETTERS = 32

Pixels = npt.NDArray[np.uint8]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

Found: TypeAlias = SlideMask | Points | None
"""What a dense or a detection model made besides the score map."""


class Mark(IntEnum):
    """What a region without a class is drawn as."""

    READ_ERROR = 0
    SKIPPED = 1
    NOT_A_NUMBER = 2
    SCREENED_OUT = 3
    EXCLUDED = 4

    @property
    def text(self) -> str:
        """Words for the legend."""
        return (
            "could not be read",
            "not scored yet",
            "score is not a number",
            "not looked at",
            "left out: doubtful picture",
        )[self]


def marks_of(score_map: ScoreMap) -> npt.NDArray[np.int32]:
    """The mark of each region, (n,) int32, -1 for those with a class."""
    marks = np.full(len(score_map), -1, np.int32)
    marks[score_map.labels() < 0] = Mark.NOT_A_NUMBER
    marks[score_map.status == RegionStatus.READ_ERROR] = Mark.READ_ERROR
    marks[score_map.status == RegionStatus.SKIPPED] = Mark.SKIPPED
    marks[score_map.status == RegionStatus.SCREENED_OUT] = Mark.SCREENED_OUT
    marks[score_map.status == RegionStatus.EXCLUDED] = Mark.EXCLUDED
    return marks


def pattern(mark: Mark, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Pixels to draw a mark with, (h, w, 3) float32 of 0 to 255.

    Black and white stripes for read errors, pale grey ones the other way for skipped regions, a
    black and yellow chessboard for scores that are no numbers, grey dots on white for regions that
    were screened out, black ones on grey for those left out: not to be taken for a class.
    """
    y, x = np.indices(shape[:2])
    if mark is Mark.NOT_A_NUMBER:
        on, colors = (x // 4 + y // 4) % 2 == 0, ((0, 0, 0), (255, 220, 0))
    elif mark is Mark.READ_ERROR:
        on, colors = (x + y) // 4 % 2 == 0, ((20, 20, 20), (255, 255, 255))
    elif mark is Mark.SCREENED_OUT:
        on, colors = (x % 6 < 2) & (y % 6 < 2), ((150, 150, 150), (245, 245, 245))
    elif mark is Mark.EXCLUDED:
        on, colors = (x % 5 < 2) & (y % 5 < 2), ((20, 20, 20), (190, 190, 190))
    else:
        on, colors = (x - y) // 3 % 3 == 0, ((150, 150, 150), (235, 235, 235))
    return np.where(on[..., None], *(np.array(c, np.float32) for c in colors))


def scale_bar_um(most_um: float) -> float:
    """The longest of 1, 2, 5, 10, ... um (or tenths and so on of it) that is not over `most_um`."""
    power = 10.0 ** math.floor(math.log10(most_um))
    return max(step * power for step in (1, 2, 5) if step * power <= most_um)


def draw_legend(
    picture: Pixels, score_map: ScoreMap, found: Found = None, *, um_per_px: float
) -> Pixels:
    """Put the legend to the right of a picture, and the scale bar below it.

    Args:
        picture: (h, w, 3) uint8.
        score_map: What the picture shows.
        found: Drawn on it.
        um_per_px: um per picture px along x.

    Returns:
        (H, W, 3) uint8, larger than `picture`, which is in its top-left corner.
    """
    height, width = picture.shape[:2]
    size = max(15, round(max(height, width) / 58))
    font, gap = ImageFont.load_default(size), size // 2
    lines = _lines(score_map, found, size)
    number_x = width + 2 * size + gap + max(_width(font, line.number) for line in lines)
    text_x = number_x + gap
    starts = [text_x if line.number or line.swatch is not None else width + size for line in lines]
    ends = [x + _width(font, line.text) for x, line in zip(starts, lines, strict=True)]
    canvas_size = (
        max(*ends, _width(font, RESEARCH_USE)) + size,
        max(height + 3 * size, (len(lines) + 1) * (size + gap)) + size + gap,
    )
    image = Image.new("RGB", canvas_size, _PAPER)
    image.paste(Image.fromarray(picture), (0, 0))
    draw = ImageDraw.Draw(image)
    for i, line in enumerate(lines):
        y = gap + i * (size + gap)
        middle = y + size / 2
        if line.swatch is not None:
            box = (width + size, y, width + 2 * size, y + size)
            image.paste(Image.fromarray(line.swatch), box[:2])
            draw.rectangle(box, outline=_FAINT)
        draw.text((number_x, middle), line.number, _INK, font, anchor="rm")
        draw.text((starts[i], middle), line.text, _INK, font, anchor="lm")
    _draw_scale_bar(draw, font, size, height, width, um_per_px)
    draw.text((size, canvas_size[1] - size), RESEARCH_USE, _FAINT, font, anchor="lm")
    return np.asarray(image)


class _Line(NamedTuple):
    """One line of the legend: a sample of what is drawn, a number, text; or text alone."""

    text: str
    number: str = ""
    swatch: Pixels | None = None


def _lines(score_map: ScoreMap, found: Found, size: int) -> list[_Line]:
    lines = [_Line(_short(score_map.slide_id)), _Line(_short(score_map.model_name))]
    if score_map.partial:
        lines.append(_Line("Not finished"))
    probabilities = score_map.slide_probabilities
    if probabilities is not None and (label := score_map.slide_label):
        share = float(probabilities[score_map.classes.index(label)])
        lines.append(_Line(_short(f"Slide: {label} ({_percent(share)})")))
    lines += [_Line(""), *_results(score_map, found, size)]
    marks = marks_of(score_map)
    counts = [(mark, int((marks == mark).sum())) for mark in Mark]
    lines += [_Line(mark.text, str(n), _marked(mark, size)) for mark, n in counts if n]
    return lines


def _results(score_map: ScoreMap, found: Found, size: int) -> list[_Line]:
    """What the model predicts, with the title of the numbers: as the columns of slides.csv."""
    looked = _Line("looked at", swatch=_outline(size))
    if score_map.task == "slide":
        known = score_map.slide_probabilities
        chances = [math.nan] * len(score_map.classes) if known is None else known.tolist()
        pairs = zip(score_map.classes, chances, strict=True)
        lines = [_Line(_short(name), _percent(chance)) for name, chance in pairs]
        return [_Line("Probability, whole slide"), *lines, looked]
    if score_map.task == "detection":
        kinds = point_kinds(score_map)
        counts = score_map.run_meta.get(RunMeta.N_POINTS) or {}
        if isinstance(found, Points):
            counts = found.counts(kinds)
        lines = [
            _Line(_short(name), f"{counts[name]:,}" if name in counts else "–", swatch)
            for name, swatch in (
                (name, dot_swatch(score_map, kind, size)) for kind, name in enumerate(kinds)
            )
        ]
        return [_Line("Points"), *lines, looked]
    shares = score_map.fractions()
    drawn = score_map.task == "region" or isinstance(found, SlideMask)
    return [
        _Line("Share of the tissue"),
        *(
            _Line(_short(name), _percent(shares[name]), _plain(color, size) if drawn else None)
            for name, color in zip(score_map.classes, score_map.colors, strict=True)
        ),
        *([] if drawn else [looked]),
    ]


def _draw_scale_bar(
    draw: ImageDraw.ImageDraw, font: Font, size: int, height: int, width: int, um_per_px: float
) -> None:
    # Pillow's own font, the one that is there on every machine, has no Greek letters.
    bar_um = scale_bar_um(max(width / 4, size) * um_per_px)
    y = height + 3 * size // 2
    end = size + round(bar_um / um_per_px)
    draw.line((size, y, end, y), _INK, max(2, size // 5))
    for x in (size, end):
        draw.line((x, y - size // 3, x, y + size // 3), _INK, max(1, size // 8))
    text = f"{bar_um / 1000:g} mm" if bar_um >= 1000 else f"{bar_um:g} um"
    draw.text((end + size // 2, y), text, _INK, font, anchor="lm")


def _plain(color: str, size: int) -> Pixels:
    return np.full((size, size, 3), rgb(color), np.uint8)


def _marked(mark: Mark, size: int) -> Pixels:
    return pattern(mark, (size, size)).astype(np.uint8)


def _outline(size: int) -> Pixels:
    """The corner of an area with a line around it."""
    swatch = np.full((size, size, 3), _PAPER, np.uint8)
    start = size // 3
    swatch[start:, start : start + 2] = swatch[start : start + 2, start:] = OUTLINE
    return swatch


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f} %"


def _short(text: str) -> str:
    text = visible(text)
    return text if len(text) <= _MOST_LETTERS else text[: _MOST_LETTERS - 1] + "…"


def _width(font: Font, text: str) -> int:
    return math.ceil(font.getlength(text))
