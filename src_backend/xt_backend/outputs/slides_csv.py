"""``slides.csv``: exactly one line per input, whatever became of it."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xt_backend.errors import StoreCorruptError, StoreError
from xt_backend.keys import RunMeta, ScreeningMeta, SlideStatus
from xt_backend.outputs.regions_table import PROB_PREFIX
from xt_backend.outputs.text import escape_cell, from_visible, unescape_cell, visible
from xt_backend.publishing import publish
from xt_backend.store.score_map import ScoreMap

__all__ = ["SlideRow", "any_screened", "read_slides_csv", "slides_csv_columns", "write_slides_csv"]

FRACTION_PREFIX, COUNT_PREFIX = "fraction_", "n_"
_TEXT = ("slide", "id", "status", "reason", "mpp_source", "predicted", "cache")
_INTEGERS = (
    "row",
    "width_px",
    "height_px",
    "n_regions",
    "n_failed_regions",
    "encoded_regions",
    "n_screened_out",
)
_BEFORE = (
    "row",
    "slide",
    "id",
    "status",
    "reason",
    "slide_mpp",
    "mpp_source",
    "width_px",
    "height_px",
    "n_regions",
    "n_failed_regions",
    "predicted",
)
_AFTER = (
    "seconds_read",
    "seconds_encode",
    "seconds_context",
    "seconds_total",
    "encoded_regions",
    "cache",
)
_SCREENED = ("n_screened_out", "screened_recall")


@dataclass(frozen=True)
class SlideRow:
    """One line of slides.csv. None and "" are written as empty cells.

    Attributes:
        row: Place among the inputs.
        slide: File name, or the id where names are kept out.
        id: Name of the slide's outputs.
        status: done, failed or empty.
        reason: Why it failed or is empty; no folders.
        slide_mpp: um/px of level 0, mean of x and y.
        mpp_source: Where `slide_mpp` comes from.
        width_px: Width of level 0.
        height_px: Height of level 0.
        n_regions: Number of selected regions.
        n_failed_regions: How many of them could not be read.
        predicted: Predicted class; slide models only.
        probabilities: By class; slide models only.
        fractions: Share of the area of tissue, scored or screened out, by class; region and dense
            models only.
        counts: Number of points by kind; detection models only.
        seconds_read: Seconds that reader threads took to get at pixels, summed over them; they
            work beside the encoder, so it may be more than `seconds_total`.
        seconds_encode: Seconds in the region encoder.
        seconds_context: Seconds in the context encoder and heads.
        seconds_total: Seconds from opening to the last score, before the slide's files are
            written; as the others, of the call that made the result, None where not known.
        encoded_regions: Regions that the last call encoded, as they were not in the region store.
        cache: hit, partial or miss; of the last call.
        n_screened_out: Regions that were left out after a look at low resolution; None where
            nothing was screened.
        screened_recall: Share of the regions of the sought classes that was looked at, at least.
    """

    row: int
    slide: str
    id: str
    status: SlideStatus
    reason: str = ""
    slide_mpp: float | None = None
    mpp_source: str = ""
    width_px: int | None = None
    height_px: int | None = None
    n_regions: int | None = None
    n_failed_regions: int | None = None
    predicted: str = ""
    probabilities: Mapping[str, float] = field(default_factory=dict)
    fractions: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    seconds_read: float | None = None
    seconds_encode: float | None = None
    seconds_context: float | None = None
    seconds_total: float | None = None
    encoded_regions: int | None = None
    cache: str = ""
    n_screened_out: int | None = None
    screened_recall: float | None = None

    @classmethod
    def from_score_map(cls, score_map: ScoreMap, row: int, **others: Any) -> SlideRow:
        """The line of a slide that was scored.

        Args:
            score_map: Its result.
            row: Place among the inputs.
            **others: Further attributes: reason, seconds, encoded_regions, cache.
        """
        probabilities = score_map.slide_probabilities
        counts = score_map.run_meta.get(RunMeta.N_POINTS, {})
        screening = score_map.run_meta.get(RunMeta.SCREENING, {})
        return cls(
            row=row,
            slide=score_map.slide_name,
            id=score_map.slide_id,
            status=SlideStatus.DONE if len(score_map) else SlideStatus.EMPTY,
            slide_mpp=sum(score_map.slide_mpp) / 2,
            mpp_source=score_map.mpp_source,
            width_px=score_map.width_px,
            height_px=score_map.height_px,
            n_regions=len(score_map),
            n_failed_regions=score_map.n_failed,
            predicted=score_map.slide_label,
            probabilities=(
                {}
                if probabilities is None
                else dict(zip(score_map.classes, probabilities.tolist(), strict=True))
            ),
            fractions=score_map.fractions() if score_map.task in ("region", "dense") else {},
            counts={name: int(count) for name, count in counts.items()},
            n_screened_out=screening.get(ScreeningMeta.SCREENED_OUT),
            screened_recall=screening.get(ScreeningMeta.BOUND),
            **others,
        )


def slides_csv_columns(
    classes: Sequence[str], kinds: Sequence[str] = (), *, screened: bool = False
) -> list[str]:
    """The header.

    Args:
        classes: The model's classes.
        kinds: Of detection models, kinds of points.
        screened: Some slide was screened.
    """
    return [
        *_BEFORE,
        *(PROB_PREFIX + visible(name) for name in classes),
        *(FRACTION_PREFIX + visible(name) for name in classes),
        *(COUNT_PREFIX + visible(name) for name in kinds),
        *_AFTER,
        *(_SCREENED if screened else ()),
    ]


def any_screened(rows: Sequence[SlideRow]) -> bool:
    """Whether the table says what was screened out."""
    return any(row.n_screened_out is not None for row in rows)


def write_slides_csv(
    path: Path, rows: Sequence[SlideRow], classes: Sequence[str], kinds: Sequence[str] = ()
) -> None:
    """Publish slides.csv.

    Text that a spreadsheet would run as a formula, and characters that cannot be seen, are
    escaped; `read_slides_csv` takes that back.

    Args:
        path: Where it should go.
        rows: In the order to be written.
        classes: The model's classes, in its order.
        kinds: Kinds of points, of detection models.

    Raises:
        OutputError: It cannot be written.
    """
    screened = any_screened(rows)
    after = (*_AFTER, *_SCREENED) if screened else _AFTER
    with (
        publish(path) as temp,
        open(temp, "w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(slides_csv_columns(classes, kinds, screened=screened))
        for row in rows:
            writer.writerow(
                [_cell(getattr(row, name)) for name in _BEFORE]
                + [_cell(row.probabilities.get(name)) for name in classes]
                + [_cell(row.fractions.get(name)) for name in classes]
                + [_cell(row.counts.get(name)) for name in kinds]
                + [_cell(getattr(row, name)) for name in after]
            )


def read_slides_csv(path: Path) -> tuple[list[SlideRow], tuple[str, ...]]:
    """Read what `write_slides_csv` wrote.

    Returns:
        The rows, and the classes. Numbers that are not finite come back as None.

    Raises:
        StoreCorruptError: It is no slides.csv.
        StoreError: It cannot be read.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            header, *lines = list(csv.reader(file, strict=True))
    except OSError as error:
        raise StoreError(
            f"{path.name} cannot be read ({error.strerror})", "Check the path and its permissions"
        ) from error
    except (ValueError, csv.Error) as error:
        raise _corrupt(path, str(error)) from error
    classes = tuple(
        from_visible(name.removeprefix(PROB_PREFIX))
        for name in header
        if name.startswith(PROB_PREFIX)
    )
    # Counts stand between the last fraction and the columns behind; other names begin so too.
    first = len(_BEFORE) + 2 * len(classes)
    screened = tuple(header[-len(_SCREENED) :]) == _SCREENED
    last = len(header) - len(_AFTER) - len(_SCREENED) * screened
    kinds = tuple(from_visible(name.removeprefix(COUNT_PREFIX)) for name in header[first:last])
    if header != slides_csv_columns(classes, kinds, screened=screened):
        raise _corrupt(path, "its columns are others")
    rows = []
    for number, line in enumerate(lines, start=2):
        try:
            rows.append(_parse(dict(zip(header, line, strict=True)), classes, kinds))
        except ValueError as error:
            raise _corrupt(path, f"line {number}: {error}") from error
    return rows, classes


def _parse(cells: Mapping[str, str], classes: Sequence[str], kinds: Sequence[str]) -> SlideRow:
    values: dict[str, Any] = {}
    for name in (*_BEFORE, *_AFTER, *(name for name in _SCREENED if name in cells)):
        if name in _TEXT:
            values[name] = unescape_cell(cells[name])
        elif cells[name]:
            values[name] = int(cells[name]) if name in _INTEGERS else float(cells[name])
    if "row" not in values:
        raise ValueError("it has no number")
    values["status"] = SlideStatus(values["status"])
    for name, prefix in (("probabilities", PROB_PREFIX), ("fractions", FRACTION_PREFIX)):
        texts = {c: cells[prefix + visible(c)] for c in classes}
        values[name] = {c: float(text) for c, text in texts.items() if text}
    values["counts"] = {
        name: int(text) for name in kinds if (text := cells[COUNT_PREFIX + visible(name)])
    }
    return SlideRow(**values)


def _cell(value: str | int | float | None) -> str:
    if isinstance(value, str):
        return escape_cell(value)
    return "" if value is None or not math.isfinite(value) else repr(value)


def _corrupt(path: Path, why: str) -> StoreCorruptError:
    return StoreCorruptError(
        f"{path.name} is not a slides.csv of napari-xt ({why})", "Name the folder of a run"
    )
