"""The built wheel, and other environments to look at it in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def run() -> Run:
    """Runs a command without a current folder or a path that would add modules."""

    def run(command: Sequence[str | Path], **environment: str) -> subprocess.CompletedProcess[str]:
        variables = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        variables |= {"PYTHONSAFEPATH": "1", "NO_COLOR": "1", "COLUMNS": "300", **environment}
        return subprocess.run(
            [str(part) for part in command],
            env=variables,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def wheel(checkout: Path, run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is being tested, or one built from the checkout."""
    if named := os.environ.get("XT_WHEEL"):
        return Path(named)
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out]
    built = run([*command, checkout])
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def wheel_site(wheel: Path, run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed, to be put first on PYTHONPATH."""
    site = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install"]
    installed = run([*pip, "--no-deps", "--no-index", "--target", site, wheel])
    assert installed.returncode == 0, installed.stderr
    return site


@pytest.fixture(scope="session")
def tracked_files(checkout: Path) -> list[Path]:
    """Files that are, or would be, committed."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("the source tree is not a git checkout")
    files = [checkout / name for name in listed.stdout.split("\0") if name]
    return [file for file in files if file.is_file()]
