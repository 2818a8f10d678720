"""Foreign pickled checkpoints, read in a process of their own and as plain tensors only."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load
from torch import Tensor

from xt_backend.errors import ModelError

__all__ = ["read_pickled_weights"]

_CHILD = Path(__file__).with_name("unpickle_child.py")
_LIMIT_S = 1800


def read_pickled_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint that was written by ``torch.save``, in its order.

    Wrappers named ``state_dict``, ``model`` or ``teacher`` and prefixes ``module.`` are removed.

    Raises:
        ModelError: It holds more than plain tensors, or is no checkpoint; nothing of it ran.
    """
    with tempfile.TemporaryDirectory(prefix="napari-xt-") as folder:
        target = Path(folder) / "weights.safetensors"
        command = [sys.executable, "-I", str(_CHILD), str(path.resolve()), str(target)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise ModelError(f"Reading {path.name} took too long", "convert the file") from error
        if done.returncode or not target.is_file():
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1].rstrip(".")
            raise ModelError(
                f"{path.name} cannot be read as plain weights ({reason})",
                "only plain tensors are taken from pickled files, by `napari-xt models convert` "
                "too; save the state dict alone, best as .safetensors",
            )
        with safe_open(target, framework="pt") as file:
            order: list[str] = json.loads(file.metadata()["order"])
        tensors = load(target.read_bytes())
    return {key: tensors[key] for key in order}
