"""The examples for workflow managers in docs/workflows, run where the manager is installed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest


@pytest.fixture
def slides(tissue_slide: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "slides"
    folder.mkdir()
    shutil.copy(tissue_slide, folder / "block 7.tiff")
    (folder / "broken.svs").write_bytes(b"no slide")
    (folder / "notes.txt").write_text("no slide either")
    return folder


def run(command: list[str | Path], folder: Path) -> None:
    scripts = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    environment = {**os.environ, "PATH": scripts, "HOME": str(folder)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def check_table(path: Path) -> None:
    table = pd.read_csv(path).set_index("slide")["status"]
    assert table.to_dict() == {"block 7.tiff": "done", "broken.svs": "failed"}


@pytest.mark.skipif(find_spec("snakemake") is None, reason="Snakemake is not installed")
def test_snakemake(checkout: Path, slides: Path, tiny_model: Path, tmp_path: Path) -> None:
    command: list[str | Path] = [
        *(sys.executable, "-m", "snakemake", "--cores", "2", "--quiet", "all"),
        *("--snakefile", checkout / "docs" / "workflows" / "Snakefile"),
        *("--config", f"slides={slides}", f"model={tiny_model}"),
    ]
    run(command, tmp_path)
    check_table(tmp_path / "slides.csv")
    assert (tmp_path / "qupath" / "block 7" / "block 7.outlines.geojson").is_file()
    assert not list((tmp_path / "qupath" / "broken").glob("*.geojson"))
    told = json.loads((tmp_path / "logs" / "block 7.json").read_text())
    assert told["slides"][0]["encoded_regions"] == 16
    # A job that is repeated finds its features in the cache.
    run([*command, "--forcerun", "score"], tmp_path)
    told = json.loads((tmp_path / "logs" / "block 7.json").read_text())
    assert told["slides"][0]["encoded_regions"] == 0


@pytest.mark.skipif(shutil.which("nextflow") is None, reason="Nextflow is not installed")
def test_nextflow(checkout: Path, slides: Path, tiny_model: Path, tmp_path: Path) -> None:
    main = checkout / "docs" / "workflows" / "main.nf"
    wanted = ("--slides", f"{slides}/*.{{svs,tiff}}", "--model", tiny_model)
    run(["nextflow", "run", main, *wanted], tmp_path)
    check_table(tmp_path / "results" / "slides.csv")


def test_the_commands_in_the_examples_are_understood(checkout: Path, call: Any) -> None:
    """Every `napari-xt` call in them names options that there are, also where nothing runs them."""
    called = set()
    for name in ("Snakefile", "main.nf"):
        text = (checkout / "docs" / "workflows" / name).read_text()
        joined = re.sub(r'"\s*\n\s*"|\\\\\n\s*', " ", text)
        for command, rest in re.findall(r"napari-xt (\w+) ([^\n]*)", joined):
            options = call(command, "--help").stdout
            flags = re.findall(r"(?<!\S)--[a-z-]+", rest)
            assert flags
            assert not [flag for flag in flags if flag not in options]
            called.add((name, command))
    assert called == {("Snakefile", "score"), ("Snakefile", "export"), ("main.nf", "score")}


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_nextflows_script_is_a_shell_script(checkout: Path) -> None:
    text = (checkout / "docs" / "workflows" / "main.nf").read_text()
    assert text.count("{") == text.count("}")
    (script,) = re.findall(r'script:\s*"""(.*?)"""', text, re.DOTALL)
    shell = re.sub(r"\$\{[\w.]+\}", "x", script).replace("\\$", "$").replace("\\\\", "\\")
    assert "[ $? -eq 3 ]" in shell
    done = subprocess.run(["bash", "-n"], input=shell, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
