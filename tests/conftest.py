"""Fixtures and rules that every room's tests share."""

from __future__ import annotations

import ipaddress
import itertools
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parents[1]

# The same examples every time; HYPOTHESIS_PROFILE=search looks further.
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
hypothesis.settings.register_profile("search", deadline=None, max_examples=2000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

NOBODY = 65534
"""The user that owns nothing."""

_cache_numbers = itertools.count()
_user_folders = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_configure(config: pytest.Config) -> None:
    # Set before any test module is imported: some libraries look only once.
    config.stash[_user_folders] = folder = tempfile.TemporaryDirectory(prefix="napari-xt-home-")
    for kind in ("CACHE", "CONFIG", "DATA", "STATE"):
        os.environ[f"XDG_{kind}_HOME"] = str(Path(folder.name, kind.lower()))
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    if workers > 1:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
    _check_wheel_under_test()


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[_user_folders].cleanup()


def _check_wheel_under_test() -> None:
    """scripts/test names the folder of the installed wheel; nothing else may be tested then."""
    site = os.environ.get("XT_WHEEL_SITE")
    if site is None:
        return
    import napari_xt
    import xt_backend

    for package in (napari_xt, xt_backend):
        if package.__file__ is None or not Path(package.__file__).is_relative_to(site):
            pytest.exit(f"{package.__name__} comes from {package.__file__}, not from {site}", 3)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    parallel = config.pluginmanager.hasplugin("xdist")
    for item in items:
        in_gui = item.path.is_relative_to(ROOT / "tests" / "gui")
        if in_gui:
            item.add_marker(pytest.mark.gui)
        if parallel:
            # With --dist loadgroup the window's tests share a process, for there is one screen
            # and one keyboard focus; any other file stays in one, so that what its tests share
            # is made once.
            group = "gui" if in_gui else str(item.path)
            item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test finds what another one has encoded, or found to be the fastest way to encode."""
    folder = tmp_path_factory.getbasetemp() / f"cache-{next(_cache_numbers)}"
    monkeypatch.setenv("NAPARI_XT_CACHE", str(folder))
    monkeypatch.setenv("XDG_CONFIG_HOME", f"{folder}-config")


@pytest.fixture(autouse=True)
def _no_internet(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections of this process beyond this machine fail the test."""
    if request.node.get_closest_marker("network") is not None:
        return
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def local_connect(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_local(address[0]):
            pytest.fail(f"the test tried to connect to {address}")
        connect(self, address)

    def local_look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        if not _is_local(host):
            pytest.fail(f"the test tried to look up {host!r}")
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", local_connect)
    monkeypatch.setattr(socket, "getaddrinfo", local_look_up)


def _is_local(host: Any) -> bool:
    if host in (None, "", "localhost", socket.gethostname()):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback or ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _shared(name: str) -> Path:
    folder = ROOT.parent / "shared" / name
    if not folder.is_dir():
        pytest.skip(f"the folder shared/{name} is not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real slides and labelled histology; not part of the repository."""
    return _shared("data")


@pytest.fixture(scope="session")
def shared_golden() -> Path:
    """Folder with inputs and outputs of the reference implementation; not in the repository."""
    return _shared("golden")


@pytest.fixture(scope="session")
def checkout() -> Path:
    """Top of the source tree, whose files packaging tests look at."""
    return ROOT


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small region model with random weights: 64 px regions at 1 um/px."""
    from support.models import write_tiny_model

    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture(scope="session")
def tissue_slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1024 x 1024 px at 0.5 um/px, tissue in the middle: 16 regions of the tiny model."""
    from support.slides import write_tissue_slide

    return write_tissue_slide(tmp_path_factory.mktemp("slide") / "block.tiff")


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `napari-xt` with arguments in this process: a `support.cli.Call`."""
    from support.cli import Finished

    from xt_backend.cli import main

    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str | Path) -> Finished:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Finished(int(ended.value.code or 0), out, err)

    return run


def _needs_room_for_temporary_files() -> None:
    """pytest itself makes some: where it may not, every test from here on would fail."""
    try:
        tempfile.TemporaryFile().close()
    except OSError:
        pytest.skip("another user may not write into the folder of temporary files")


@pytest.fixture
def closed_folder() -> Iterator[Path]:
    """A folder in which mode 0 means something: whoever is the superuser is not in this test."""
    if os.name == "nt":
        pytest.skip("modes mean nothing there")
    with tempfile.TemporaryDirectory(prefix="napari-xt-closed-") as name:
        folder = Path(name)
        if os.geteuid() != 0:
            yield folder
            return
        folder.chmod(0o755)
        os.chown(folder, NOBODY, -1)
        os.seteuid(NOBODY)
        try:
            _needs_room_for_temporary_files()
            yield folder
        finally:
            os.seteuid(0)
            for inside in folder.rglob("*"):
                inside.chmod(0o700)
