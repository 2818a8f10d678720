"""File names that are no text, or that look like something else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.progress import Progress
from support.annotations import write_annotations
from support.cli import Call, rows

from xt_backend.cli import console

pytestmark = pytest.mark.skipif(
    sys.platform in ("win32", "darwin"), reason="names are always Unicode there"
)


def napari_xt(*arguments: str | Path | bytes, encoding: str = "utf-8") -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", "from xt_backend.cli import main; main()", *arguments],
        capture_output=True,
        env={**os.environ, "COLUMNS": "200", "PYTHONIOENCODING": encoding},
        timeout=200,
    )
    return done.returncode, done.stdout.decode(encoding), done.stderr.decode(encoding)


@pytest.mark.parametrize("name", [b"caf\xe9 [bold]x.tiff", "ø\n.tiff".encode()])
def test_any_name_is_scored_and_printed(
    name: bytes, tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    slide = os.path.join(os.fsencode(tmp_path), name)
    Path(os.fsdecode(slide)).write_bytes(tissue_slide.read_bytes())
    more = ("--model", tiny_model, "--out", tmp_path / "run")
    code, out, err = napari_xt("score", slide, *more)
    assert code == 0, err
    assert "Traceback" not in err
    shown = {b"caf": "caf\\udce9 [bold]x.tiff: 16 regions"}.get(name[:3], "ø\\n.tiff: 16 regions")
    assert shown in out
    assert rows(tmp_path / "run")[0]["status"] == "done"
    code, out, err = napari_xt("score", slide, *more, "--json", encoding="ascii")
    assert code == 0, err
    assert json.loads(out)["slides"][0]["slide"] == os.fsdecode(name)
    code, out, err = napari_xt("info", slide)
    assert code == 0, err
    assert shown.split(":")[0] in out


def test_no_command_breaks_a_line_in_a_name(
    call: Call, tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    slides = tmp_path / "slides"
    slides.mkdir()
    for name in ("a", "b\nc"):
        (slides / f"{name}.tiff").write_bytes(tissue_slide.read_bytes())
        write_annotations(slides / f"{name}.geojson", [("normal", (256, 256, 768, 768))])
    (slides / "b\nc.tiff").write_bytes(b"no slide")
    done = call("evaluate", "--model", tiny_model, "--slides", slides, "--bootstrap", "0")
    assert done.returncode == 3, done.stderr
    assert "b\\nc.tiff: FAILED: " in done.stdout
    write_annotations(slides / "b\nc.geojson", [("other", (256, 256, 768, 768))])
    out = tmp_path / "m.safetensors"
    for more, code in (
        (("evaluate", "--model", tiny_model), 2),
        (("evaluate", "--model", tiny_model, "--leave-out", "other", "--bootstrap", "0"), 3),
        (("train", "--classes", "normal", "--out", out), 2),
    ):
        done = call(*more, "--slides", slides)
        assert done.returncode == code, done.stderr
        assert "b\\nc" in done.stderr, more


def test_a_bar_is_one_line() -> None:
    with Progress(console._DescriptionColumn(), disable=True) as bar:
        bar.add_task("[bold]b\nc.tiff", total=1)
        (column,) = bar.columns
        assert isinstance(column, console._DescriptionColumn)
        assert column.render(bar.tasks[0]).plain == "[bold]b\\nc.tiff"
