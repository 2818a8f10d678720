"""What importing costs, and what the public names are."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from types import ModuleType
from typing import Any

import pytest

import xt_backend

HEAVY = ("torch", "timm", "napari", "PySide6", "qtpy.QtCore", "openslide", "pandas", "skimage")
PROMISED = {"Backend", "features", "open_slide", "score"}


def _loaded(run: Any, module: str, wanted: tuple[str, ...]) -> set[str]:
    code = f"import sys, {module}; print(*(set({wanted!r}) & set(sys.modules)))"
    done = run([sys.executable, "-W", "error", "-c", code])
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["xt_backend", "napari_xt"])
def test_importing_the_packages_loads_nothing_heavy(run: Any, module: str) -> None:
    assert not _loaded(run, module, HEAVY)


@pytest.mark.parametrize("room", ["cli", "outputs", "samples", "slides", "store"])
def test_rooms_that_need_no_torch_do_not_load_it(run: Any, room: str) -> None:
    assert not _loaded(run, f"xt_backend.{room}", ("torch", "timm", "napari", "PySide6"))


@pytest.mark.parametrize("module", ["backend.jobs", "training.targets", "training.tuning.job"])
def test_what_crosses_to_the_window_does_not_load_torch(run: Any, module: str) -> None:
    assert not _loaded(run, f"xt_backend.{module}", ("torch", "timm"))


def test_the_heavy_list_is_seen_when_it_is_loaded(run: Any) -> None:
    assert _loaded(run, "torch", HEAVY) == {"torch"}


def test_importing_takes_a_small_share_of_importing_torch(run: Any) -> None:
    """In modules: how long they take depends on the machine and on what else it does."""

    def modules(name: str) -> int:
        code = f"import sys; n = len(sys.modules); import {name}; print(len(sys.modules) - n)"
        return int(run([sys.executable, "-c", code]).stdout)

    assert modules("xt_backend") < 0.1 * modules("torch")


def test_promised_names_are_public() -> None:
    assert set(xt_backend.__all__) >= PROMISED
    assert set(dir(xt_backend)) >= set(xt_backend.__all__)
    for name in xt_backend.__all__:
        assert getattr(xt_backend, name) is not None


def _packages() -> list[str]:
    found = pkgutil.iter_modules(xt_backend.__path__, "xt_backend.")
    return ["xt_backend", *(module.name for module in found if module.ispkg)]


@pytest.mark.parametrize("name", _packages())
def test_all_is_complete(name: str) -> None:
    """Every public name of a package that is its own is in `__all__`, and the other way round."""
    package = importlib.import_module(name)
    public = set(package.__all__)
    assert len(public) == len(package.__all__)
    missing = [one for one in public if not hasattr(package, one)]
    assert not missing
    own = {
        one
        for one, value in vars(package).items()
        if not one.startswith("_")
        and not isinstance(value, ModuleType)
        and getattr(value, "__module__", "").startswith("xt_backend")
    }
    assert own <= public


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = xt_backend.no_such_name
