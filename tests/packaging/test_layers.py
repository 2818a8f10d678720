"""The rooms import only downwards."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LINT = "import sys; from importlinter.cli import lint_imports_command; lint_imports_command()"


def _lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LINT, "--no-cache"],
        cwd=folder,
        env={"PYTHONPATH": f"{folder}:{folder / 'src_backend'}", "NO_COLOR": "1", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def sources(checkout: Path, tmp_path: Path) -> Path:
    """A copy of the packages, to be spoilt."""
    shutil.copy(checkout / "pyproject.toml", tmp_path)
    ignore = shutil.ignore_patterns("__pycache__", "*.safetensors")
    shutil.copytree(checkout / "napari_xt", tmp_path / "napari_xt", ignore=ignore)
    shutil.copytree(checkout / "src_backend", tmp_path / "src_backend", ignore=ignore)
    return tmp_path


def test_layers_hold(sources: Path) -> None:
    linted = _lint(sources)
    assert linted.returncode == 0, linted.stdout + linted.stderr
    assert "3 kept, 0 broken" in linted.stdout


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("store/shard.py", "import xt_backend.engine"),
        ("slides/lattice.py", "import xt_backend.model"),
        ("errors.py", "import qtpy"),
        ("cli/__init__.py", "def view():\n    import napari"),
    ],
)
def test_an_upward_import_is_noticed(sources: Path, module: str, line: str) -> None:
    file = sources / "src_backend" / "xt_backend" / module
    with file.open("a", encoding="utf-8") as text:
        text.write(f"\n{line}\n")
    linted = _lint(sources)
    assert linted.returncode == 1
    assert "BROKEN" in linted.stdout
