"""Random views of slides, so that neither the glass's origin nor a slide's size is learnt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["View", "blank_tokens", "join", "shift", "turn"]

GLASS_UM = 60_000.0
"""Fields are shifted anywhere within a square of this side: about the longest glass."""

LARGEST_GAP = 6
"""Regions between two slides that are laid side by side, at most."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class View:
    """One field as one step sees it.

    Attributes:
        tokens: (N, k*k, P) float32 whitened components, raster order inside each region.
        positions_um: (N, 2) float64 centres of the regions, x to the right, y down.
        soft: (T, C) float32 class shares of the N regions, or of the one slide; rows sum to 1, or
            to 0 where nothing is annotated.
        weights: (T,) float32 what each counts in the loss; 0 leaves it out.
    """

    tokens: Floats
    positions_um: npt.NDArray[np.float64]
    soft: Floats
    weights: Floats

    def __len__(self) -> int:
        return len(self.positions_um)


def turn(view: View, way: int) -> View:
    """Flip or turn a field by right angles.

    The places and the order of the tokens inside a region follow; what a token says about its
    pixels stays. Reading a flipped field is reading the field backwards.

    Args:
        view: One field.
        way: 0 to 7: bit 0 flips x, bit 1 flips y, bit 2 then swaps x and y.
    """
    positions_um = view.positions_um * [-1.0 if way & 1 else 1.0, -1.0 if way & 2 else 1.0]
    n, per_region, n_components = view.tokens.shape
    k = round(per_region**0.5)
    grid = view.tokens.reshape(n, k, k, n_components)
    grid = grid[:, :: -1 if way & 2 else 1, :: -1 if way & 1 else 1]
    if way & 4:
        positions_um, grid = positions_um[:, ::-1], grid.swapaxes(1, 2)
    tokens = np.ascontiguousarray(grid).reshape(view.tokens.shape)
    return View(tokens, np.ascontiguousarray(positions_um), view.soft, view.weights)


def shift(view: View, rng: np.random.Generator) -> View:
    """Put a field anywhere on the glass."""
    start = view.positions_um.min(axis=0) if len(view) else 0.0
    positions_um = view.positions_um - start + rng.uniform(0.0, GLASS_UM, 2)
    return View(view.tokens, positions_um, view.soft, view.weights)


def join(views: Sequence[View], pitch_um: float, rng: np.random.Generator) -> View:
    """Lay slides side by side into one larger field, with random gaps and steps between them.

    Args:
        views: At least one; each keeps its own arrangement.
        pitch_um: Step of the lattice; the slides stay on one common lattice, so that rows and
            columns run through all of them.
        rng: Draws gaps and steps.
    """
    first = views[0]
    positions_um = [first.positions_um - first.positions_um.min(axis=0)]
    for view in views[1:]:
        extent_um = np.max([places.max(axis=0) for places in positions_um], axis=0)
        along = int(rng.integers(2))
        offset_um = np.empty(2)
        gap = int(rng.integers(1, LARGEST_GAP + 1))
        offset_um[along] = extent_um[along] + gap * pitch_um
        steps = round(float(extent_um[1 - along]) / pitch_um)
        offset_um[1 - along] = int(rng.integers(steps + 1)) * pitch_um
        positions_um.append(view.positions_um - view.positions_um.min(axis=0) + offset_um)
    return View(
        np.concatenate([view.tokens for view in views]),
        np.concatenate(positions_um),
        np.concatenate([view.soft for view in views]),
        np.concatenate([view.weights for view in views]),
    )


def blank_tokens(view: View, share: float, noise: float, rng: np.random.Generator) -> View:
    """Blank some regions' tokens and blur all of them.

    Args:
        view: One field.
        share: Of the regions whose tokens become zero, which is the mean of whitened components.
        noise: Standard deviation of what is added to the other components.
        rng: Draws both.
    """
    tokens = view.tokens
    if noise:
        tokens = tokens + noise * rng.standard_normal(tokens.shape, dtype=np.float32)
    if share:
        kept = rng.random(len(view)) >= share
        tokens = tokens * kept[:, None, None].astype(np.float32)
    return View(tokens, view.positions_um, view.soft, view.weights)
