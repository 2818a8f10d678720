"""File names that are no text, or that look like something else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli import rows

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
