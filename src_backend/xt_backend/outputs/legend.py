"""What stands beside and below an overlay: classes with shares, marks, scale bar."""

from __future__ import annotations

import math
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from xt_backend.keys import RESEARCH_USE, RegionStatus
from xt_backend.outputs.palette import rgb
from xt_backend.outputs.text import visible
from xt_backend.store.score_map import ScoreMap

__all__ = ["Mark", "draw_legend", "marks_of", "pattern", "scale_bar_um"]

_PAPER, _INK, _FAINT = (255, 255, 255), (30, 30, 30), (110, 110, 110)
_MOST_LETTERS = 32

Pixels = npt.NDArray[np.uint8]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


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


def draw_legend(picture: Pixels, score_map: ScoreMap, *, um_per_px: float) -> Pixels:
    """Put the legend to the right of a picture, and the scale bar below it.

    Args:
        picture: (h, w, 3) uint8.
        score_map: What the picture shows.
        um_per_px: um per picture px along x.

    Returns:
        (H, W, 3) uint8, larger than `picture`, which is in its top-left corner.
    """
    height, width = picture.shape[:2]
    size = max(15, round(max(height, width) / 58))
    font, gap = ImageFont.load_default(size), size // 2
    lines = _lines(score_map)
    number_x = width + 2 * size + gap + max(_width(font, line.number) for line in lines)
    text_x = number_x + gap
    ends = [(text_x if line.swatch else width + size) + _width(font, line.text) for line in lines]
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
        if line.swatch is None:
            draw.text((width + size, middle), line.text, _INK, font, anchor="lm")
            continue
        box = (width + size, y, width + 2 * size, y + size)
        image.paste(Image.fromarray(_swatch(line.swatch, size)), box[:2])
        draw.rectangle(box, outline=_FAINT)
        draw.text((number_x, middle), line.number, _INK, font, anchor="rm")
        draw.text((text_x, middle), line.text, _INK, font, anchor="lm")
    _draw_scale_bar(draw, font, size, height, width, um_per_px)
    draw.text((size, canvas_size[1] - size), RESEARCH_USE, _FAINT, font, anchor="lm")
    return np.asarray(image)


class _Line(NamedTuple):
    """One line of the legend: a colour or a mark with a number, or text alone."""

    text: str
    number: str = ""
    swatch: str | Mark | None = None


def _lines(score_map: ScoreMap) -> list[_Line]:
    lines = [_Line(_short(score_map.slide_id)), _Line(_short(score_map.model_name))]
    if score_map.partial:
        lines.append(_Line("Not finished"))
    probabilities = score_map.slide_probabilities
    if probabilities is not None and (label := score_map.slide_label):
        share = float(probabilities[score_map.classes.index(label)])
        lines.append(_Line(_short(f"Slide: {label} ({_percent(share)})")))
    lines.append(_Line(""))
    shares = score_map.fractions()
    lines += [
        _Line(_short(name), _percent(shares[name]), color)
        for name, color in zip(score_map.classes, score_map.colors, strict=True)
    ]
    marks = marks_of(score_map)
    counts = [(mark, int((marks == mark).sum())) for mark in Mark]
    lines += [_Line(mark.text, str(count), mark) for mark, count in counts if count]
    return lines


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


def _swatch(swatch: str | Mark, size: int) -> Pixels:
    if isinstance(swatch, Mark):
        return pattern(swatch, (size, size)).astype(np.uint8)
    return np.full((size, size, 3), rgb(swatch), np.uint8)


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f} %"


def _short(text: str) -> str:
    text = visible(text)
    return text if len(text) <= _MOST_LETTERS else text[: _MOST_LETTERS - 1] + "…"


def _width(font: Font, text: str) -> int:
    return math.ceil(font.getlength(text))
