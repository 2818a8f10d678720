"""The installed package: where it comes from, its manifest, its command."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

WHERE = "import napari_xt, xt_backend; print(napari_xt.__file__, xt_backend.__file__, sep='\\n')"


def test_the_wheel_is_what_the_tests_see(run: Any) -> None:
    site = os.environ.get("XT_WHEEL_SITE")
    if site is None:
        pytest.skip("not started by scripts/test, so the checkout is tested")
    import napari_xt
    import xt_backend

    here = [napari_xt.__file__, xt_backend.__file__]
    child = run([sys.executable, "-c", WHERE])
    assert child.stdout.split("\n")[:2] == here
    assert all(str(path).startswith(site + os.sep) for path in here)


def test_the_command_belongs_to_the_interpreter(run: Any) -> None:
    command = Path(sys.executable).with_name("napari-xt")
    assert command.is_file()
    assert version("napari-xt") in run([command, "--version"]).stdout
    assert sys.executable in command.read_text().splitlines()[0]


def test_manifest_is_valid_where_it_is_installed(run: Any) -> None:
    """The editable install when pytest was started by hand, the wheel under scripts/test."""
    checked = run([sys.executable, "-m", "npe2", "validate", "--imports", "napari-xt"])
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "valid" in checked.stdout + checked.stderr


def test_manifest_is_valid_in_the_editable_install(run: Any, checkout: Path) -> None:
    python = checkout / ".venv" / "bin" / "python"
    if not python.exists():
        pytest.skip("the checkout has no .venv")
    where = run([python, "-c", WHERE]).stdout.split("\n")
    assert where[0] == str(checkout / "napari_xt" / "__init__.py")
    checked = run([python, "-m", "npe2", "validate", "--imports", "napari-xt"])
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_manifest_is_valid_in_the_wheel(run: Any, wheel_site: Path) -> None:
    found = run([sys.executable, "-c", WHERE], PYTHONPATH=str(wheel_site)).stdout
    assert found.startswith(str(wheel_site))
    validate = [sys.executable, "-m", "npe2", "validate", "--imports", "napari-xt"]
    checked = run(validate, PYTHONPATH=str(wheel_site))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_validation_would_notice_a_broken_manifest(
    run: Any, checkout: Path, tmp_path: Path
) -> None:
    text = (checkout / "napari.yaml").read_text(encoding="utf-8")
    broken = tmp_path / "napari.yaml"
    broken.write_text(text.replace("napari_xt", "napari_xt_gone"), encoding="utf-8")
    checked = run([sys.executable, "-m", "npe2", "validate", "--imports", broken])
    assert checked.returncode != 0
