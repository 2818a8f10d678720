"""What is in the wheel and what its metadata promises."""

from __future__ import annotations

import configparser
import re
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

import pytest
from npe2 import PluginManifest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

QT_BINDINGS = {"pyqt5", "pyqt6", "pyside2", "pyside6"}


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def metadata(wheel: Path, names: set[str]) -> Message:
    (name,) = (name for name in names if name.endswith(".dist-info/METADATA"))
    with zipfile.ZipFile(wheel) as archive:
        return Parser().parsestr(archive.read(name).decode())


@pytest.fixture(scope="module")
def manifest(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> PluginManifest:
    with zipfile.ZipFile(wheel) as archive:
        file = archive.extract("napari_xt/napari.yaml", tmp_path_factory.mktemp("manifest"))
    return PluginManifest.from_file(file)


def test_every_module_of_the_checkout_is_in_the_wheel(checkout: Path, names: set[str]) -> None:
    for package in (checkout / "napari_xt", checkout / "src_backend" / "xt_backend"):
        modules = {str(path.relative_to(package.parent)) for path in package.rglob("*.py")}
        assert modules <= names
        assert len(modules) > 1


def test_data_files_are_in_the_wheel(checkout: Path, names: set[str]) -> None:
    assert {"napari_xt/napari.yaml", "xt_backend/py.typed"} <= names
    source = checkout / "src_backend"
    models = {str(path.relative_to(source)) for path in source.rglob("*.safetensors")}
    assert any(name.endswith("/context-demo.safetensors") for name in models)
    assert models <= names


def test_wheel_holds_nothing_else(names: set[str]) -> None:
    tops = {name.split("/")[0] for name in names}
    assert {"napari_xt", "xt_backend"} < tops
    assert all(top.endswith(".dist-info") for top in tops - {"napari_xt", "xt_backend"})
    kinds = {Path(name).suffix for name in names if ".dist-info/" not in name}
    pages = {".html", ".css", ".js"}
    data = {".typed", ".yaml", ".safetensors", ".json", ".svg", ".png", ".md"}
    assert kinds <= {".py", *data, *pages}
    assert pages <= kinds  # the templates of reports


def test_the_manifest_is_a_real_file_in_the_wheel(wheel: Path, checkout: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = archive.read("napari_xt/napari.yaml")
        # The high bits hold the Unix mode; 0o120000 would be a symbolic link.
        mode = archive.getinfo("napari_xt/napari.yaml").external_attr >> 16
    assert mode & 0o170000 != 0o120000
    assert packed == (checkout / "napari.yaml").read_bytes()


def test_manifest_names_the_distribution(manifest: PluginManifest, metadata: Message) -> None:
    assert manifest.name == metadata["Name"] == "napari-xt"
    assert manifest.contributions.widgets
    assert manifest.contributions.readers


def test_entry_points(wheel: Path, names: set[str]) -> None:
    (name,) = (name for name in names if name.endswith(".dist-info/entry_points.txt"))
    entries = configparser.ConfigParser()
    with zipfile.ZipFile(wheel) as archive:
        entries.read_string(archive.read(name).decode())
    assert dict(entries["console_scripts"]) == {"napari-xt": "xt_backend.cli:main"}
    assert dict(entries["napari.manifest"]) == {"napari-xt": "napari_xt:napari.yaml"}


def test_metadata(metadata: Message, names: set[str]) -> None:
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert metadata["Requires-Python"] == ">=3.11"
    assert "Framework :: napari" in metadata.get_all("Classifier", [])
    assert {"all", "mamba", "parquet", "train"} <= set(metadata.get_all("Provides-Extra", []))
    text = metadata.get_payload()
    assert isinstance(text, str)
    assert "napari-xt" in text


def test_the_base_install_asks_for_no_qt_binding(metadata: Message) -> None:
    """Neither directly nor through anything that it brings along."""
    base, queue = set(), list(_without_extras(metadata.get_all("Requires-Dist", [])))
    while queue:
        name = queue.pop()
        if name in base:
            continue
        base.add(name)
        try:
            queue += _without_extras(requires(name) or [])
        except PackageNotFoundError:  # for another platform
            continue
    assert {"torch", "timm", "qtpy"} <= base
    assert not base & (QT_BINDINGS | {"napari"})


def test_only_the_extra_for_the_window_asks_for_napari(metadata: Message) -> None:
    wanting = [
        (requirement.name, requirement.marker)
        for requirement in map(Requirement, metadata.get_all("Requires-Dist", []))
        if canonicalize_name(requirement.name) in QT_BINDINGS | {"napari"}
    ]
    assert {name for name, _ in wanting} == {"napari", "pyside6"}
    for _, marker in wanting:
        assert marker is not None
        assert marker.evaluate({"extra": "all", "python_version": "3.11"})
        assert not marker.evaluate({"extra": "", "python_version": "3.11"})


def _without_extras(requirements: list[str]) -> set[str]:
    parsed = map(Requirement, requirements)
    return {
        canonicalize_name(one.name)
        for one in parsed
        if one.marker is None or one.marker.evaluate({"extra": ""})
    }


def test_sdist_builds_the_same_wheel(
    checkout: Path, names: set[str], run: Any, tmp_path: Path
) -> None:
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path]
    built = run([*build, checkout])
    assert built.returncode == 0, built.stdout + built.stderr
    (sdist,) = tmp_path.glob("*.tar.gz")
    (again,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(again) as archive:
        assert set(archive.namelist()) == names
    with tarfile.open(sdist) as archive:
        inside = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    wanted = {"pyproject.toml", "LICENSE", "CHANGELOG.md", "README.md", "scripts/test", ".ci/run"}
    assert wanted <= inside
    assert "tests/conftest.py" in inside
    assert not [name for name in inside if re.match(r"\.venv|demo_out|.*__pycache__", name)]
