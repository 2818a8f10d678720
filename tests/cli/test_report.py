"""Reports of runs: what a user types, and what a browser would show."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image
from support.cli import Call
from support.runs import failed, task_map, write_run
from support.score_maps import CLASSES

from xt_backend.keys import RESEARCH_USE, SlideStatus
from xt_backend.model import find_model, read_card
from xt_backend.outputs import SlideRow, write_local_json
from xt_backend.outputs.report import BatchFacts, ModelFacts, write_batch_page
from xt_backend.outputs.report import batch_page as batch

ODD = "<script>alert(1)<&\">' {{ 7 * 7 }}.tiff"
RUN = {
    "configuration": {
        "command": "score",
        "model": {"name": "tiny", "sha256": "ab" * 32},
        "options": {"tissue": "auto", "context": True},
    },
    "state": "finished",
    "seconds": {"encode": 60.0, "wait": 30.0, "write": 10.0, "total": 100.0, "read": 5.0},
}


@dataclass
class Page(HTMLParser):
    """What is in a page."""

    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._in = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in = tag if tag in ("script", "style") else ""

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in == "script":
            self.scripts.append(data)
        elif not self._in:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))

    def attributes(self, tag: str, name: str) -> list[str]:
        return [str(attrs[name]) for found, attrs in self.tags if found == tag and name in attrs]


def read(path: Path) -> Page:
    """The page, after a look whether it keeps to itself."""
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    assert {"link", "iframe", "object", "embed", "base", "form"}.isdisjoint(
        tag for tag, _ in page.tags
    )
    for tag, attrs in page.tags:
        assert not any(name.startswith("on") for name in attrs), tag
        assert tag == "a" or "href" not in attrs
        source = attrs.get("src")
        assert source is None or source.startswith("data:image/"), tag
    for link in page.attributes("a", "href"):
        assert link.startswith("./")
    (policy,) = [
        str(attrs["content"])
        for tag, attrs in page.tags
        if tag == "meta" and attrs.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'; img-src data:;")
    hashes = [
        base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for code in page.scripts
    ]
    allowed = re.findall(r"script-src ([^;]+);", policy)
    assert allowed == ([f"'sha256-{hashes[0]}'"] if hashes else ["'none'"])
    assert page.text.count(RESEARCH_USE) == 2
    return page


def pictures(page: Page) -> list[Image.Image]:
    uris = page.attributes("img", "src")
    return [Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) for uri in uris]


@pytest.mark.parametrize("task", ["region", "slide", "dense", "detection"])
def test_every_task_has_its_pages(call: Call, tmp_path: Path, task: str) -> None:
    maps = [task_map(task, slide_id=name, slide_name=f"{name}.svs") for name in ("a", "b")]
    run = write_run(tmp_path / "run", maps, [failed("c.svs", "no pixel size. Give one.")], RUN)
    done = call("export", run, "--to", "report", "--json")
    assert done.returncode == 0, done.stderr
    written = json.loads(done.stdout)["written"]
    assert written == ["a.report.html", "b.report.html", "report.html"]
    page, slide = read(run / "report.html"), read(run / "a.report.html")
    assert page.attributes("a", "href").count("./b.report.html") == 3
    assert "./c.report.html" not in page.attributes("a", "href")
    assert "no pixel size. Give one." in page.text
    assert "encoding 1 min 0 s (60.0%)" in page.text
    assert len(pictures(page)) == 2
    assert all(max(picture.size) <= 220 for picture in pictures(page))
    assert all(name in page.text and name in slide.text for name in CLASSES[1:])
    assert "not shown" in slide.text  # its card, as there is no such model
    if task == "slide":
        assert "the slide as a whole Tumour" in slide.text
        assert "Tumour 2 (100.0%)" in page.text
    if task == "detection":
        assert "Tumour 2" in slide.text
    if task == "dense":
        overlay, mask = pictures(slide)
        colors = mask.convert("RGB").getcolors()
        assert colors is not None
        assert [color for _, color in colors] == [(0xD5, 0x5E, 0x00)]
        assert overlay.width >= 900


def test_points_are_drawn_where_they_lie(call: Call, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [task_map("detection")])
    assert call("export", run, "--to", "report").returncode == 0
    (picture,) = pictures(read(run / "block-7.report.html"))
    # Bounds of 2500 x 2000 px from (1000, 2000), drawn 900 px wide; the last class is "Fat".
    x, y = round((2000 - 1000) * 900 / 2500), round((3000 - 2000) * 900 / 2500)
    near = np.asarray(picture.convert("RGB"))[y, x].astype(int)
    assert np.abs(near - (0x00, 0x9E, 0x73)).max() < 30


def test_odd_names_are_only_text(call: Call, tmp_path: Path) -> None:
    maps = [
        task_map("region", slide_id="_odd_", slide_name=ODD, classes=("Stroma", ODD, "Fat"),
                 thresholds={}, model_name=ODD, run_meta={"notes": [ODD], "warnings": [ODD]}),
    ]  # fmt: skip
    reason = f"{ODD} is \"bad\" <img src=x onerror=alert(1)>\n and 'more'"
    run = write_run(tmp_path / "run", maps, [failed(ODD, reason)], RUN)
    assert call("export", run, "--to", "report").returncode == 0
    for name in ("report.html", "_odd_.report.html"):
        page = read(run / name)
        assert ODD in page.text
        assert not any("alert" in code for code in page.scripts)
    assert "onerror=alert(1)" in read(run / "report.html").text


def test_links_lead_to_the_files(call: Call, tmp_path: Path) -> None:
    names = ["100% #1?", "a:b", "ümlaut & co"]
    maps = [task_map("region", slide_id=name, slide_name=f"{name}.svs") for name in names]
    run = write_run(tmp_path / "run", maps)
    assert call("export", run, "--to", "report", "--out", tmp_path / "out").returncode == 0
    links = set(read(tmp_path / "out" / "report.html").attributes("a", "href"))
    assert {(tmp_path / "out" / unquote(link)).is_file() for link in links} == {True}
    assert len(links) == 3


def test_the_card_comes_from_the_model_of_the_run(call: Call, tmp_path: Path) -> None:
    path = find_model("context-demo")
    card = read_card(path)
    asked = {"command": "score", "model": {"name": "mine", "sha256": card.state_sha256}}
    run = write_run(tmp_path / "run", [task_map("region")], run={"configuration": asked})
    write_local_json(run / "local.json", {"model": str(path)})
    assert call("export", run, "--to", "report").returncode == 0
    page = read(run / "block-7.report.html")
    assert card.intended_use in page.text
    assert "macro F1" in page.text
    assert str(path.parent) not in (run / "block-7.report.html").read_text(encoding="utf-8")
    refused = call("export", run, "--to", "report", "--model", "breast-demo")
    assert refused.returncode == 2
    assert "breast-demo is not the model of this run" in refused.stderr


def test_a_damaged_result_is_told_and_the_rest_is_shown(call: Call, tmp_path: Path) -> None:
    maps = [task_map("region", slide_id=name, slide_name=f"{name}.svs") for name in ("a", "b")]
    run = write_run(tmp_path / "run", maps)
    (run / "a.run.h5").write_bytes(b"no HDF5")
    (run / "b.overlay.png").write_bytes(b"no PNG")
    done = call("export", run, "--to", "report")
    assert done.returncode == 3
    page = read(run / "report.html")
    assert "a.svs was scored, but its result cannot be shown: a.run.h5" in page.text
    assert str(tmp_path) not in page.text
    assert len(pictures(page)) == 1
    assert not (run / "a.report.html").exists()


def test_a_run_without_any_result_has_a_page(call: Call, tmp_path: Path) -> None:
    where = "Manifest, line {}: s{}.svs is no slide. Give one."
    rows = [failed(f"s{n}.svs", where.format(n + 2, n)) for n in range(60)]
    rows += [failed(f"t{n}.svs", f"tile {n} is damaged") for n in range(130)]
    run = write_run(tmp_path / "run", [], rows, {**RUN, "state": "interrupted"})
    assert call("export", run, "--to", "report").returncode == 0
    text = read(run / "report.html").text
    assert "60 slides: … is no slide. Give one." in text
    assert "1 slide: tile 98 is damaged" in text
    assert "1 slide: tile 99 is damaged" not in text
    assert "31 more reasons, of a slide or a few each, are in slides.csv." in text
    assert "and 10 more; slides.csv has them all" in text
    assert "not finished (interrupted)" in text


def test_score_writes_the_pages_when_all_slides_are_done(
    call: Call, tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.svs").write_bytes(b"no slide")
    out = tmp_path / "run"
    done = call(
        "score", tissue_slide, tmp_path / "bad.svs", "--model", tiny_model, "--out", out,
        "--layouts", "report",
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert {path.name for path in out.glob("*.html")} == {"block.report.html", "report.html"}
    written = {path.name: path.read_bytes() for path in out.glob("*.html")}
    assert call("export", out, "--to", "report").returncode == 0
    assert {path.name: path.read_bytes() for path in out.glob("*.html")} == written
    page = Page()
    page.feed((out / "report.html").read_text(encoding="utf-8"))
    assert "bad.svs" in " ".join(page.texts)


def test_what_means_nothing_for_a_report_is_refused(call: Call, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [task_map("region")])
    for flag in ("--merged", "--gzip"):
        assert call("export", run, "--to", "report", flag).returncode == 2
    assert not (run / "report.html").exists()


def test_ten_thousand_slides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MOST_ROWS", 2000)
    shares = {"Stroma": 0.25, "Tumour": 0.75}
    rows: list[Any] = [
        SlideRow(n, f"slide_{n}.svs", f"slide_{n}", SlideStatus.DONE, n_regions=5, fractions=shares)
        for n in range(10_000)
    ]
    facts = BatchFacts(
        rows,
        {},
        ModelFacts.of_map(task_map("region")),
        {row.id: "data:image/jpeg;base64,AAAA" for row in rows[:200]},
        frozenset(row.id for row in rows),
    )
    write_batch_page(tmp_path / "report.html", facts)
    page = read(tmp_path / "report.html")
    assert len(page.attributes("img", "src")) == 200
    assert (
        "The first 200 slides; 9,800 more have their picture on their own pages only." in page.text
    )
    assert "8,000 more lines are in slides.csv only." in page.text
    assert "75 % to 80 %: 10,000 slides" in page.text
