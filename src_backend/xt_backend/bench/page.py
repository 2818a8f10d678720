"""The page: all sections, their pictures, and where it was measured."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from xt_backend.keys import RESEARCH_USE
from xt_backend.publishing import make_folder, publish_bytes
from xt_backend.training.plots import publish_figure

from .section import Section

__all__ = ["PAGE", "PICTURES", "write_page"]

PAGE = "benchmarks.md"
PICTURES = "images"
WIDTH = 100


def write_page(
    folder: Path,
    sections: Mapping[str, Section],
    machines: Mapping[str, str],
    conditions: Mapping[str, str],
    quick: bool,
) -> None:
    """Write ``benchmarks.md`` and its pictures, each published atomically.

    Args:
        folder: Exists.
        sections: By benchmark, in the order of the page.
        machines: By benchmark: where it was measured, in words.
        conditions: By benchmark: with how many threads and beside what.
        quick: Whether the sizes say nothing.

    Raises:
        UsageError: matplotlib is not installed.
        OutputError: A file cannot be written.
    """
    parts = [
        "# Benchmarks",
        _paragraph(
            f"Made by `napari-xt bench{' --quick' if quick else ''}`; [bench.md](bench.md) says "
            f"how to make it again. {RESEARCH_USE}"
        ),
    ]
    if quick:
        parts.append(
            _paragraph(
                "**A quick run: sizes so small that the numbers mean nothing.** It only shows that "
                "everything works."
            )
        )
    shared = list(dict.fromkeys(machines.values()))
    if len(shared) == 1:
        parts.append(_paragraph(shared[0]))
    for name, section in sections.items():
        parts.append(f"## {section.title}")
        parts += [_paragraph(text) for text in section.before]
        place = [machines[name]] if len(shared) > 1 else []
        parts.append(
            _paragraph(" ".join([*place, f"By `napari-xt bench {name}`.", conditions[name]]))
        )
        parts += [table.to_markdown() for table in section.tables]
        for picture in section.pictures:
            make_folder(folder / PICTURES)
            file = f"{PICTURES}/bench-{picture.name}.png"
            publish_figure(picture.draw(), folder / file)
            parts.append(f"![{picture.caption}]({file})")
        parts += [_paragraph(text) for text in section.after]
    publish_bytes(folder / PAGE, ("\n\n".join(parts) + "\n").encode())


def to_text(sections: Mapping[str, Section]) -> str:
    """The tables for the screen."""
    parts: list[str] = []
    for section in sections.values():
        parts += [section.title, *(table.to_text() for table in section.tables)]
    return "\n\n".join(parts)


def _paragraph(text: str) -> str:
    return "\n".join(textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False))


def tables_as_json(sections: Mapping[str, Section]) -> dict[str, list[dict[str, Sequence[object]]]]:
    """The tables for ``--json``."""
    return {
        name: [
            {"columns": list(table.columns), "rows": [list(row) for row in table.rows]}
            for table in section.tables
        ]
        for name, section in sections.items()
    }
