"""The ways in which a slide can lie on the glass."""

from __future__ import annotations

from torch import Tensor

__all__ = ["VIEWS", "seen_from"]

VIEWS = tuple(
    (mirrored, upended, exchanged)
    for exchanged in (False, True)
    for upended in (False, True)
    for mirrored in (False, True)
)
"""The 8 ways in which a slide can lie: x mirrored, y mirrored, then x and y exchanged."""


def seen_from(
    tokens: Tensor, positions_um: Tensor, view: tuple[bool, bool, bool]
) -> tuple[Tensor, Tensor]:
    """Tokens and places of a slide that lies differently; what a token says is not made again.

    Since rows become columns, and beginnings ends, so does the order in which they are read.

    Args:
        tokens: (N, k * k, width).
        positions_um: (N, 2) x, y.
        view: One of `VIEWS`.

    Returns:
        The two as given.
    """
    mirrored, upended, exchanged = view
    n, per_region, width = tokens.shape
    side = round(per_region**0.5)
    grid = tokens.view(n, side, side, width)  # y, x
    turned = [axis for axis, wanted in ((1, upended), (2, mirrored)) if wanted]
    grid = grid.flip(turned) if turned else grid
    signs = positions_um.new_tensor([-1.0 if mirrored else 1.0, -1.0 if upended else 1.0])
    # Back to where the section was: no model shall be asked about places that it does not know.
    corner = positions_um.amin(dim=0)
    places = positions_um * signs
    places = places - places.amin(dim=0) + corner
    if exchanged:
        grid, places = grid.transpose(1, 2), places.flip(1)
    return grid.reshape(n, per_region, width), places
