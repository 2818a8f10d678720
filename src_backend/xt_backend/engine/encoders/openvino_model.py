"""A region encoder as a model of OpenVINO: converted once, kept in a file of our own."""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from xt_backend.errors import OutputError
from xt_backend.model import RegionEncoder
from xt_backend.publishing import make_folder, publish_bytes, scratch

from .calibration import calibration_numerics, calibration_pixels, quantised

__all__ = ["converted", "load_openvino"]

_log = logging.getLogger(__name__)

_STRUCTURE_BYTES = 2**20
_TELEMETRY = "openvino_telemetry"


def load_openvino() -> ModuleType:
    """Import OpenVINO, which then tells nobody that it was.

    Raises:
        ImportError: It is not installed.
        Exception: It is broken, in whatever way.
    """
    with _telling_nobody():
        return importlib.import_module("openvino")


class _Silent:
    """Stands for what would send word of every import and conversion to the internet."""

    def __init__(self, *args: Any, **options: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if name == "backend":  # by which OpenVINO tells whose it is
            raise AttributeError(name)
        return lambda *args, **options: None


@contextmanager
def _telling_nobody() -> Iterator[None]:
    loaded = sys.modules.get(_TELEMETRY)
    if loaded is None:  # OpenVINO does without it where it cannot be imported
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
        try:
            yield
        finally:
            sys.modules.pop(_TELEMETRY, None)
        return
    known = loaded.__dict__.get("Telemetry")
    loaded.__dict__["Telemetry"] = _Silent
    try:
        yield
    finally:
        loaded.__dict__["Telemetry"] = known


class _FromPixels(nn.Module):
    """Takes pixels as they are read, so that normalising is a part of the model."""

    def __init__(self, region_encoder: RegionEncoder) -> None:
        super().__init__()
        self.region_encoder = region_encoder

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, R, R, 3) uint8 to (B, k*k, D) float32."""
        tokens: torch.Tensor = self.region_encoder(pixels.permute(0, 3, 1, 2))
        return tokens.float()


def converted(
    region_encoder: RegionEncoder,
    shape: tuple[int, ...],
    folder: Path | None,
    *,
    int8: bool = False,
) -> tuple[bytes, bytes]:
    """The encoder for batches of one shape, from its file or converted anew.

    Args:
        region_encoder: On the CPU.
        shape: (B, R, R, 3).
        folder: Where the file is kept; None keeps none.
        int8: Bring it to 8-bit integers.

    Returns:
        structure: XML, as OpenVINO reads it.
        weights: What belongs to it.

    Raises:
        NoSpaceError: There is none for temporary files.
    """
    path = None if folder is None else folder / f"{_digest(region_encoder, shape, int8)}.openvino"
    if path is not None and (found := _read(path)) is not None:
        return found
    model = _convert(region_encoder, shape)
    sizes = [part.nbytes for part in region_encoder.state_dict().values()]
    structure, weights = _serialised(model, sum(sizes))
    if int8:
        batches = calibration_pixels(shape[1]).reshape(-1, *shape)
        structure, weights = quantised(structure, weights, batches)
    if path is not None:
        _keep(path, structure, weights)
    # Also the fresh one is read from its bytes: both are the same to the last bit.
    return structure, weights


def _convert(region_encoder: RegionEncoder, shape: tuple[int, ...]) -> Any:
    module = _FromPixels(region_encoder).eval()
    example = torch.zeros(shape, dtype=torch.uint8)
    openvino = load_openvino()
    with warnings.catch_warnings(), _telling_nobody(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            exported = torch.export.export(module, (example,))
            return openvino.convert_model(exported)
        except Exception:
            # What branches on its data can be traced, which takes several times as long.
            _log.debug("%s cannot be exported", region_encoder.info.name, exc_info=True)
        return openvino.convert_model(
            module, example_input=(example,), input=[openvino.PartialShape(list(shape))]
        )


def _serialised(model: Any, n_weights_bytes: int) -> tuple[bytes, bytes]:
    with scratch(None, n_weights_bytes + _STRUCTURE_BYTES):
        pass  # of a full disk OpenVINO says no more than that it failed
    with tempfile.TemporaryDirectory(prefix="napari-xt-") as name:
        path = Path(name, "model.xml")
        load_openvino().save_model(model, path, compress_to_fp16=False)
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()


def _digest(region_encoder: RegionEncoder, shape: tuple[int, ...], int8: bool) -> str:
    what = {
        "encoder": region_encoder.numerics(),
        "shape": list(shape),
        "torch": str(torch.__version__),
        "timm": version("timm"),
        "openvino": str(load_openvino().__version__),
        "schema": 1,
        **({"calibration": calibration_numerics(shape[1])} if int8 else {}),
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _keep(path: Path, structure: bytes, weights: bytes) -> None:
    sums = [hashlib.sha256(part).hexdigest() for part in (structure, weights)]
    head = json.dumps({"bytes": len(structure), "sha256": sums}).encode()
    try:
        make_folder(path.parent)
        publish_bytes(path, b"\n".join([head, structure + weights]), durable=False)
    except OutputError as error:
        _log.warning("the converted encoder is not kept: %s", error)


def _read(path: Path) -> tuple[bytes, bytes] | None:
    """Structure and weights; None where there is no such file, or a damaged one."""
    try:
        head, _, body = path.read_bytes().partition(b"\n")
        known = json.loads(head)
        parts = body[: known["bytes"]], body[known["bytes"] :]
        good = [hashlib.sha256(part).hexdigest() for part in parts] == known["sha256"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        good = False
    if not good:
        _log.warning("%s is damaged and made anew", path.name)
        return None
    return parts
