"""What is installed here."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

__all__ = ["versions"]

_PACKAGES = (
    "napari-xt",
    "torch",
    "timm",
    "openvino",
    "numpy",
    "openslide-python",
    "openslide-bin",
    "simplejpeg",
    "pillow",
    "scikit-image",
    "h5py",
)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version(), "system": platform.system()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
