"""Encoders in 8-bit integers, calibrated on pictures that are the same for every slide."""

from __future__ import annotations

import functools
import hashlib
import logging
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from xt_backend.samples.layout import draw_layout
from xt_backend.samples.noise import Window
from xt_backend.samples.render import Renderer

from .base import Pixels

__all__ = ["calibration_numerics", "calibration_pixels", "quantised"]

_log = logging.getLogger(__name__)

_CHILD = Path(__file__).with_name("quantise_child.py")
_LIMIT_S = 3600
_SEED = (8, 0)
_SLIDE_PX = 2048
_WINDOW = Window(0, 256, 1536, 1024)
"""Tissue, and a margin of glass."""
_GRID = 8, 4


@functools.cache
def calibration_pixels(region_px: int) -> Pixels:
    """Regions of a sample slide at 0.5 and 1 um/px, (64, R, R, 3) uint8.

    Not of the slides of a run: what becomes of a slide would depend on which others it is with.
    """
    layout = draw_layout(_SLIDE_PX, _SLIDE_PX, _SEED)
    picture = Renderer.seeded(layout, _SEED).render(_WINDOW)
    half = picture.reshape(_WINDOW.height_px // 2, 2, _WINDOW.width_px // 2, 2, 3)
    return np.concatenate(
        [
            _regions(one, region_px)
            for one in (picture, half.mean(axis=(1, 3)).round().astype(np.uint8))
        ]
    )


def _regions(picture: Pixels, region_px: int) -> Pixels:
    lacking = [max(0, region_px - side) for side in picture.shape[:2]]
    padded = np.pad(picture, [*((0, n) for n in lacking), (0, 0)], mode="symmetric")
    columns, rows = (
        np.linspace(0, side - region_px, n).round().astype(int)
        for side, n in zip(padded.shape[1::-1], _GRID, strict=True)
    )
    return np.stack([padded[y : y + region_px, x : x + region_px] for y in rows for x in columns])


@functools.cache
def calibration_numerics(region_px: int) -> dict[str, Any]:
    """What an encoder in 8-bit integers depends on besides itself, as plain data.

    Raises:
        PackageNotFoundError: NNCF is not installed.
    """
    digest = hashlib.sha256(calibration_pixels(region_px).tobytes()).hexdigest()
    return {"quantiser": f"nncf {version('nncf')}", "sha256": digest}


def quantised(structure: bytes, weights: bytes, batches: Pixels) -> tuple[bytes, bytes]:
    """A model of OpenVINO in 8-bit integers.

    Args:
        structure: Of the model, XML.
        weights: Of the model.
        batches: (n, B, R, R, 3) uint8, on which the ranges of its activations are measured.

    Raises:
        CalledProcessError: NNCF is broken, or cannot quantise it.
        TimeoutExpired: It takes too long.
    """
    with tempfile.TemporaryDirectory(prefix="napari-xt-") as name:
        folder = Path(name)
        (folder / "model.xml").write_bytes(structure)
        (folder / "model.bin").write_bytes(weights)
        np.save(folder / "batches.npy", batches)
        command = [sys.executable, "-P", str(_CHILD), name]
        try:
            subprocess.run(command, capture_output=True, timeout=_LIMIT_S, check=True)
        except subprocess.CalledProcessError as error:
            _log.info("NNCF says: %s", error.stderr.decode(errors="replace"))
            raise
        return (folder / "int8.xml").read_bytes(), (folder / "int8.bin").read_bytes()
