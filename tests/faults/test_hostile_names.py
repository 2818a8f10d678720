"""Names that a spreadsheet or a browser would run, from a slide and a model to all that is read."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.cli import Call, rows
from support.models import write_tiny_model
from support.slides import tissue_image, write_tiff_slide

HOSTILE = "=cmd()</script><script>alert(1)</script><img src=x onerror=alert(2)>"
SLIDE = "=1+1<script>alert(3)<img src=x onerror=alert(4)>"


class Elements(HTMLParser):
    """The elements of a page with the names of their attributes; what a browser would make."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.found: Counter[tuple[str, ...]] = Counter()
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found[(tag, *(name for name, _ in attrs))] += 1

    def of(self, tag: str) -> int:
        """How many there are."""
        return sum(n for (name, *_), n in self.found.items() if name == tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def made(call: Call, folder: Path, slide_name: str, class_name: str) -> Path:
    """A run of one slide with its report."""
    folder.mkdir()
    model = write_tiny_model(folder / "m.safetensors", classes=("normal", class_name))
    slide = write_tiff_slide(
        folder / f"{slide_name}.tiff", tissue_image(128, 128, ((0, 0, 128, 128),)), levels=1
    )
    out = folder / "run"
    done = call("score", slide, "--model", model, "--out", out, "--tissue", "all", "--no-cache")
    assert done.returncode == 0, done.stderr
    done = call("export", out, "--to", "report")
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.skipif(os.name == "nt", reason="no such file names")
def test_case_16_a_report_of_hostile_names_is_only_text(call: Call, tmp_path: Path) -> None:
    plain = made(call, tmp_path / "plain", "slide", "cancer")
    hostile = made(call, tmp_path / "hostile", SLIDE, HOSTILE)
    (row,) = rows(hostile)
    pages = [(hostile / "report.html", plain / "report.html"),
             (hostile / f"{row['id']}.report.html", plain / "slide.report.html")]  # fmt: skip
    for page, wanted in pages:
        found, usual = Elements(page), Elements(wanted)
        # Whatever they are called, a browser makes the same of the page. How often there is a
        # line or a bar depends on where the time went.
        assert found.found.keys() == usual.found.keys()
        for tag in ("script", "img", "a", "h1", "h2", "table", "tr"):
            assert found.of(tag) == usual.of(tag), tag
        assert HOSTILE in found.text
        assert f"{SLIDE}.tiff" in found.text
    for table in hostile.glob("*.csv"):
        with table.open(encoding="utf-8", newline="") as file:
            cells = [cell for line in csv.reader(file) for cell in line]
        assert not [cell for cell in cells if re.match(r"[=+@\t\r]|-[^\d.]", cell)], table
