"""Lattices of features on which one class can only be told from another by what lies around.

A numpy likeness of the sample slides: lobules of stroma, half of them with one nest. Stroma of a
lobule with a nest is "reactive", else "normal"; both look the same in every single region.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CLASSES = ("nest", "normal", "other", "reactive")
REGION_UM = 128.0
_FINE = 4


@dataclass(frozen=True)
class Simulated:
    """One slide: (N, 1, D) float16 features, (N, 2) um, (N, C) shares, all of tissue regions."""

    features: npt.NDArray[np.float16]
    positions_um: npt.NDArray[np.float64]
    shares: npt.NDArray[np.float32]


def simulate(seed: int, side: int = 16, noise: float = 0.15, n_features: int = 32) -> Simulated:
    """Draw a slide of side x side regions."""
    rng = np.random.default_rng(seed)
    truth = np.full((side * _FINE, side * _FINE), CLASSES.index("other"))
    y, x = np.mgrid[: side * _FINE, : side * _FINE] / _FINE
    placed: list[tuple[float, float, float]] = []
    for _ in range(40 * side):
        radius = rng.uniform(1.2, min(2.4, side / 2))
        cx, cy = rng.uniform(radius, side - radius, 2)
        if any(np.hypot(cx - a, cy - b) < radius + r + 0.4 for a, b, r in placed):
            continue
        placed.append((cx, cy, radius))
        with_nest = len(placed) % 2 == 0
        inside = np.hypot(x - cx, y - cy) < radius
        truth[inside] = CLASSES.index("reactive" if with_nest else "normal")
        if with_nest:
            angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(0, radius - 0.6)
            at = cx + away * np.cos(angle), cy + away * np.sin(angle)
            truth[np.hypot(x - at[0], y - at[1]) < 0.5] = CLASSES.index("nest")
    shares = np.stack(
        [
            (truth == label).reshape(side, _FINE, side, _FINE).mean(axis=(1, 3)).ravel()
            for label in range(len(CLASSES))
        ],
        axis=1,
    )
    # What can be seen: nest, stroma (whichever kind) and other.
    look = np.stack([shares[:, 0], shares[:, 1] + shares[:, 3], shares[:, 2]], axis=1)
    mixing = np.random.default_rng(0).normal(size=(3, n_features))
    features = look @ mixing + rng.normal(0, noise, (side * side, n_features))
    rows, cols = np.divmod(np.arange(side * side), side)
    positions_um = (np.stack([cols, rows], axis=1) + 0.5) * REGION_UM
    return Simulated(features[:, None].astype(np.float16), positions_um, shares.astype(np.float32))
