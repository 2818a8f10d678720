"""From what was asked for to the way to encode: by rule, from memory, or by trying."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xt_backend.errors import DeviceError, ModelError
from xt_backend.model import RegionEncoder

from ..device import Device
from .base import Pixels
from .choice import EncoderChoice, choice_key, keep_choice, recall_choice
from .openvino_cpu import openvino_precisions
from .probing import Judge, failure_words, probe
from .way import Way, usual_way

__all__ = [
    "ENOUGH_REGIONS",
    "PROBE_REGIONS",
    "asked_way",
    "check_backend",
    "choose_way",
    "known_choice",
]

ENOUGH_REGIONS = 1000
"""A slide or batch of fewer is encoded sooner than a choice is made."""

PROBE_REGIONS = 96
_LEAST_PROBED = 32
_LEAST_COMPARED = 2
"""What is off is told by how much regions differ from each other."""

_INT8 = "openvino-int8"

_log = logging.getLogger(__name__)

_CUDA_BATCHES = (128, 256)


def check_backend(asked: str, device: Device) -> None:
    """Refuse a backend that was asked for and cannot be had on a device.

    Raises:
        DeviceError: It is not installed, not for this device, or not in the precision asked for.
    """
    if asked in ("openvino", _INT8):
        if device.kind != "cpu":
            raise DeviceError(
                f"OpenVINO encodes on the CPU, not on {device.name}", "Add --device cpu"
            )
        if not _has_openvino():
            raise DeviceError(
                "OpenVINO is not installed", 'Install it with: pip install "napari-xt[cpu]"'
            )
    # What is usual, fp32, every processor computes.
    if asked == "openvino" and device.precision != "fp32":
        able = _openvino_precisions()
        if able and device.precision not in able:
            raise DeviceError(
                f"OpenVINO does not compute in {device.precision} on this processor",
                "Leave --precision out, or use --encoder-backend torch",
            )
    if asked == _INT8:
        if not _has("nncf"):
            raise DeviceError(
                "NNCF is not installed", 'Install it with: pip install "napari-xt[int8]"'
            )
        if not _computes_int8():
            raise DeviceError(
                "This processor computes no faster in 8-bit integers (it has no VNNI)",
                "Use --encoder-backend auto",
            )
        if device.precision != "fp32":
            raise DeviceError(
                f"{_INT8} computes in int8, not in {device.precision}", "Leave --precision out"
            )
    if asked == "torch-compile" and device.kind != "cuda":
        raise DeviceError(
            f"torch-compile is for CUDA, not for {device.name}",
            "Use --encoder-backend auto or torch",
        )


def asked_way(asked: str, device: Device) -> Way | None:
    """The way to encode that was asked for; None where it has to be found out.

    Args:
        asked: Backend as asked for.
        device: Where it runs, with the precision that is usual there.

    Raises:
        DeviceError: As of `check_backend`.
    """
    check_backend(asked, device)
    if asked == _INT8:
        return Way(_INT8, "int8")
    return Way(asked, device.precision) if asked in ("torch", "torch-compile") else None


def known_choice(
    what: dict[str, Any], device: Device, asked: str, precision: str
) -> EncoderChoice | None:
    """The way to encode where nothing has to be tried; None where it does.

    Args:
        what: The encoder and its weights, as plain data.
        device: Where it runs, with the precision that is usual there.
        asked: Backend as asked for.
        precision: As asked for.

    Raises:
        DeviceError: As of `check_backend`.
    """
    if (way := asked_way(asked, device)) is not None:
        return EncoderChoice(way, "asked for")
    if device.kind == "mps":
        return EncoderChoice(usual_way(device), "there is no other for this device")
    if device.kind == "cpu" and not _has_openvino():
        return EncoderChoice(usual_way(device), "OpenVINO (extra cpu) is not installed")
    kept = recall_choice(choice_key(what, device, asked, precision))
    if kept is not None and kept.way.backend == "openvino" and not _openvino_precisions():
        return None  # it worked then
    return kept


def choose_way(
    region_encoder: RegionEncoder,
    what: dict[str, Any],
    device: Device,
    asked: str,
    precision: str,
    *,
    n_regions: int,
    sample: Callable[[int], Pixels],
    judge: Judge | None = None,
    folder: Path | None = None,
) -> EncoderChoice:
    """The way to encode; measured, and kept for next time, where that pays.

    Args:
        region_encoder: With the weights that will be used.
        what: As of `known_choice`.
        device: As of `known_choice`.
        asked: As of `known_choice`.
        precision: As of `known_choice`.
        n_regions: To be encoded, about.
        sample: Reads up to so many of them, (n, R, R, 3) uint8.
        judge: As of `probe`.
        folder: As of `probe`.

    Raises:
        DeviceError: As of `check_backend`.
        ModelError: The encoder's weights do not fit it.
    """
    known = known_choice(what, device, asked, precision)
    if known is not None:
        return known
    usual = usual_way(device)
    if asked == "auto" and n_regions < ENOUGH_REGIONS:
        return EncoderChoice(usual, f"nothing was tried for fewer than {ENOUGH_REGIONS:,} regions")
    ways = [usual, *_others(device, asked, precision, usual)]
    if len(ways) == 1:
        return EncoderChoice(usual, "OpenVINO is broken, or cannot compute so")
    try:
        pixels = sample(PROBE_REGIONS)
        if len(pixels) < (_LEAST_PROBED if asked == "auto" else _LEAST_COMPARED):
            return EncoderChoice(usual, "too few regions could be read to try others")
        choice = probe(region_encoder, device, ways, np.ascontiguousarray(pixels), judge, folder)
    except (DeviceError, ModelError):
        raise
    except Exception as error:
        # An odd slide, or no memory: whether that is the end is for the run itself to find out.
        _log.warning("no other way to encode than %s could be tried", usual, exc_info=True)
        return EncoderChoice(usual, f"no other could be tried: {failure_words(error)}")
    keep_choice(choice_key(what, device, asked, precision), choice)
    return choice


def _others(device: Device, asked: str, precision: str, usual: Way) -> list[Way]:
    """What is worth trying besides the usual way."""
    if device.kind == "cuda":
        names = ("fp16", "bf16") if precision == "auto" else (precision,)
        found = [Way("torch", name, size) for name in names for size in (None, *_CUDA_BATCHES)]
        return [way for way in found if way != usual]
    able = _openvino_precisions()
    if not able:
        return []
    found = [Way("openvino", name) for name in ("fp32", "mixed", "fp16", "bf16") if name in able]
    if asked == "auto" and _computes_bf16():
        found.append(Way("torch", "bf16"))
    return [way for way in found if precision in ("auto", way.precision) and way != usual]


def _openvino_precisions() -> tuple[str, ...]:
    """What OpenVINO computes in; nothing where it is broken, in whatever way it is."""
    try:
        return openvino_precisions()
    except Exception:
        _log.warning("OpenVINO cannot be used", exc_info=True)
        return ()


def _computes_bf16() -> bool:
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return supported is not None and bool(supported())


def _computes_int8() -> bool:
    supported = getattr(torch.cpu, "_is_vnni_supported", None)
    return supported is not None and bool(supported())


def _has_openvino() -> bool:
    return _has("openvino")


def _has(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
