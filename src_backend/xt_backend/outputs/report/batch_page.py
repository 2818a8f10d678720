"""``report.html``: what became of all slides of a run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xt_backend.keys import Encoding, RunFile, SlideStatus
from xt_backend.outputs.report.charts import Histogram, Part, parts, time_parts
from xt_backend.outputs.report.model_facts import ModelFacts
from xt_backend.outputs.report.page import publish_page, slide_link
from xt_backend.outputs.slides_csv import SlideRow
from xt_backend.wording import STAGE_WORDS

__all__ = ["MOST_ROWS", "MOST_THUMBNAILS", "BatchFacts", "write_batch_page"]

MOST_THUMBNAILS = 200
"""Pictures on the page of a batch; those of all slides are on their own pages."""
MOST_ROWS = 10_000
"""Lines of its table."""
_MOST_NAMES = 50
_MOST_REASONS = 100
_SLOWEST = 10
_PLACE = re.compile(r"^Manifest, (?:line|row) \d+: ")
"""Another one for each slide, whatever is wrong with them."""
_BESIDE = {"read": "reading", "decode": "of that decoding", "resample": "resampling"}
_ABOUT = ("state", "started", "ended", "peak_memory_bytes")


@dataclass(frozen=True)
class BatchFacts:
    """What the page of a batch shows.

    Attributes:
        rows: Of slides.csv, in its order.
        run: Content of run.json; empty where there is none.
        model: Of the run.
        thumbnails: Data URI by slide id, of at most `MOST_THUMBNAILS` slides.
        pages: Ids of the slides that have a page.
        problems: By slide id: why there is none though the slide is done.
    """

    rows: Sequence[SlideRow]
    run: Mapping[str, Any]
    model: ModelFacts
    thumbnails: Mapping[str, str] = field(default_factory=dict)
    pages: frozenset[str] = frozenset()
    problems: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Reason:
    """What was said of one or more slides, the same but for their names."""

    text: str
    slides: tuple[str, ...]

    @property
    def shown(self) -> tuple[str, ...]:
        return self.slides[:_MOST_NAMES]


@dataclass(frozen=True)
class _Line:
    """A line of the table."""

    row: SlideRow
    link: str
    parts: list[Part]


def write_batch_page(path: Path, facts: BatchFacts) -> None:
    """Publish the page of a batch.

    Args:
        path: Where it should go.
        facts: What it shows.

    Raises:
        OutputError: It cannot be written.
    """
    rows, run = facts.rows, facts.run
    seconds = run.get("seconds", {})
    done = [row for row in rows if row.status == SlideStatus.DONE]
    timed = sorted(
        (row for row in rows if row.seconds_total), key=lambda r: -(r.seconds_total or 0)
    )
    publish_page(
        path,
        "batch.html",
        "table.js",
        run={name: run.get(name) for name in _ABOUT},
        seconds_total=seconds.get("total"),
        settings=_settings(run),
        model=facts.model,
        counts={status: sum(row.status == status for row in rows) for status in SlideStatus},
        n_slides=len(rows),
        n_regions=sum(row.n_regions or 0 for row in rows),
        n_failed_regions=sum(row.n_failed_regions or 0 for row in rows),
        thumbnails=[
            (row, facts.thumbnails[row.id], _link(row, facts))
            for row in rows
            if row.id in facts.thumbnails
        ],
        n_without=len(facts.pages) - len(facts.thumbnails),
        lines=[_Line(row, _link(row, facts), _parts(row, facts)) for row in rows[:MOST_ROWS]],
        n_more=max(0, len(rows) - MOST_ROWS),
        table=RunFile.SLIDES_CSV,
        failures=_reasons(rows, SlideStatus.FAILED),
        empty=_reasons(rows, SlideStatus.EMPTY),
        warnings=_reasons(rows, SlideStatus.DONE),
        problems=[(row.slide, facts.problems[row.id]) for row in rows if row.id in facts.problems],
        most_names=_MOST_NAMES,
        most_reasons=_MOST_REASONS,
        histograms=_histograms(done, facts.model) if len(done) > 1 else [],
        predicted=_predicted(done, facts.model),
        n_done=len(done),
        times=time_parts(seconds, STAGE_WORDS),
        beside=[(word, seconds[name]) for name, word in _BESIDE.items() if seconds.get(name)],
        slowest=timed[:_SLOWEST],
        seconds_slides=sum(row.seconds_total or 0.0 for row in timed),
        caches={word: sum(row.cache == word for row in rows) for word in Encoding},
    )


def _link(row: SlideRow, facts: BatchFacts) -> str:
    return slide_link(row.id) if row.id in facts.pages else ""


def _colors(model: ModelFacts) -> dict[str, str]:
    return {item.name: item.color for item in model.classes}


def _parts(row: SlideRow, facts: BatchFacts) -> list[Part]:
    """Shares of the classes: of the tissue, or as probabilities of the slide."""
    colors = _colors(facts.model)
    shares = row.fractions or row.probabilities
    whole = max(1.0, sum(shares.values()))
    return parts(((name, colors[name], shares[name]) for name in shares if name in colors), whole)


def _histograms(done: Sequence[SlideRow], model: ModelFacts) -> list[Histogram]:
    made = []
    for name, color in _colors(model).items():
        shares = [
            s for row in done if (s := (row.fractions or row.probabilities).get(name)) is not None
        ]
        counts = [row.counts[name] for row in done if name in row.counts]
        if shares:
            made.append(Histogram.of_shares(name, color, shares))
        if counts:
            made.append(Histogram.of_counts(name, color, counts))
    return made


def _predicted(done: Sequence[SlideRow], model: ModelFacts) -> list[Part]:
    named = [row.predicted for row in done if row.predicted]
    return parts((name, color, named.count(name)) for name, color in _colors(model).items())


def _reasons(rows: Sequence[SlideRow], status: SlideStatus) -> list[_Reason]:
    """What is said of slides with a status, the most frequent first."""
    found: dict[str, list[SlideRow]] = {}
    for row in rows:
        if row.status == status and row.reason:
            # Names with an extension are no words that a reason may hold for other reasons.
            reason = _PLACE.sub("", row.reason)
            named = reason.replace(row.slide, "…") if "." in row.slide else reason
            found.setdefault(named, []).append(row)
    made = [
        _Reason(text if len(said) > 1 else said[0].reason, tuple(row.slide for row in said))
        for text, said in found.items()
    ]
    return sorted(made, key=lambda reason: -len(reason.slides))


def _settings(run: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What was asked for, and with what it was made."""
    configuration = run.get("configuration", {})
    asked = {
        name: value
        for name, value in configuration.get("options", {}).items()
        if value is not None and value is not False
    }
    device, way = run.get("device", {}), run.get("encoder", {}).get("way", {})
    given = {
        **{name.replace("_", " "): value for name, value in asked.items()},
        "device": device.get("name"),
        "precision": configuration.get("precision"),
        "encoder backend": way.get("backend"),
        **run.get("versions", {}),
    }
    return [(name, value) for name, value in given.items() if value is not None]
