"""Reading orders: along which way through the lattice a sequence model meets the tokens."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["ORDERS", "PATHS", "reading_order", "way_of_layer"]

PATHS = ("raster", "serpentine", "hilbert")
"""Ways through a lattice; each can also be taken with x and y exchanged."""

ORDERS = (
    "raster",
    "columns",
    "serpentine",
    "hilbert",
    "alternate",
    "alternate-serpentine",
    "alternate-hilbert",
)
"""What a stack of layers can read along, see `way_of_layer`."""

# Places that differ by less than this in y are read as one row (in x: one column). The odd shift
# keeps places on round numbers away from the borders between two rows.
_ROW_UM = 0.5
_ROW_SHIFT = 0.137

# Further down than any place on a slide, in units of rows.
_BELOW_ALL = 2**40

_HILBERT_BITS = 16


def way_of_layer(order: str, from_last: int, bidirectional: bool) -> tuple[str, bool, bool]:
    """How one layer of a stack reads.

    The last layer reads forwards, so that a class token at the end of the field sees everything;
    seen from there the direction alternates. The orders:

    - ``raster``, ``columns``: along rows, or along columns, in all layers;
    - ``serpentine``: along rows, every other one from its end;
    - ``hilbert``: along the Hilbert curve, which keeps neighbours together;
    - ``alternate``, ``alternate-serpentine``, ``alternate-hilbert``: the same with x and y
      exchanged in every other layer, such that four layers are columns forwards, rows backwards,
      columns backwards, rows forwards.

    Args:
        order: One of `ORDERS`.
        from_last: 0 for the last layer, 1 for the one before.
        bidirectional: False lets every layer read forwards.

    Returns:
        One of `PATHS`, whether x and y are exchanged, and whether it is read from its end.
    """
    alternates = order.startswith("alternate")
    path = order.removeprefix("alternate").removeprefix("-") or "raster"
    exchanged = from_last % 2 == 1 if alternates else path == "columns"
    backward = from_last % 4 in (1, 2) if alternates else from_last % 2 == 1
    return ("raster" if path == "columns" else path), exchanged, backward and bidirectional


def reading_order(
    positions_um: Tensor,
    padding_mask: Tensor | None = None,
    *,
    path: str = "raster",
    exchanged: bool = False,
    backward: bool = False,
) -> Tensor:
    """The order in which a sequence model reads tokens.

    Rows from top to bottom, each from left to right (``raster``) or in turn from left and right
    (``serpentine``), or along the Hilbert curve over the lattice. Tokens at one place keep their
    order (reversed when backward). A token beyond all others in both x and y comes last in every
    path, which is where a class token is put. Padding comes behind it, always.

    Args:
        positions_um: (B, L, 2) x, y.
        padding_mask: (B, L) bool, True = padding.
        path: One of `PATHS`.
        exchanged: Exchange x and y first: columns instead of rows.
        backward: Read from the end.

    Returns:
        (B, L) int64 indices into L.
    """
    places = torch.floor(positions_um / _ROW_UM + _ROW_SHIFT).to(torch.int64)
    x, y = places.unbind(dim=-1)
    if exchanged:
        x, y = y, x
    padding = torch.zeros_like(x, dtype=torch.bool) if padding_mask is None else padding_mask
    # Padding in rows below all others disturbs nothing.
    x, y = x.masked_fill(padding, 0), y.masked_fill(padding, _BELOW_ALL)
    if path == "hilbert":
        order = _hilbert_steps(x, y, padding).argsort(dim=1, stable=True)
    else:
        order = _by_rows(x, y)
    if path == "serpentine":
        rank = y.gather(1, order).diff(dim=1, prepend=y.new_full((len(y), 1), -_BELOW_ALL)) != 0
        odd = torch.empty_like(rank).scatter_(1, order, rank.cumsum(dim=1) % 2 == 0)
        order = _by_rows(torch.where(odd, -x, x), y)
    last = padding.to(torch.uint8) * 2
    if path != "raster":
        last += _beyond_all(x, y, padding)
    order = order.gather(1, last.gather(1, order).argsort(dim=1, stable=True))
    if not backward:
        return order
    n_valid = (~padding).sum(dim=1, keepdim=True)
    steps = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return order.gather(1, torch.where(steps < n_valid, n_valid - 1 - steps, steps))


def _by_rows(x: Tensor, y: Tensor) -> Tensor:
    order = x.argsort(dim=1, stable=True)
    return order.gather(1, y.gather(1, order).argsort(dim=1, stable=True))


def _beyond_all(x: Tensor, y: Tensor, padding: Tensor) -> Tensor:
    """(B, L) which token lies beyond all others in both x and y."""
    found = ~padding
    for values in (x, y):
        values = values.masked_fill(padding, -_BELOW_ALL)
        furthest = values == values.amax(dim=1, keepdim=True)
        found = found & furthest & (furthest.sum(dim=1, keepdim=True) == 1)
    return found


def _hilbert_steps(x: Tensor, y: Tensor, padding: Tensor) -> Tensor:
    """(B, L) how far along the Hilbert curve each place lies.

    The curve runs over squares whose side is the smallest distance between two columns or rows,
    from the upper left of the field (Hilbert, Math. Ann. 38, 1891, in its integer form).
    """
    left_out = padding | _beyond_all(x, y, padding)
    columns, rows = (_from_first(values, left_out) for values in (x, y))
    pitch = torch.minimum(_smallest_gap(columns, left_out), _smallest_gap(rows, left_out))
    largest = 2**_HILBERT_BITS - 1
    column, row = (((values + pitch // 2) // pitch).clamp(0, largest) for values in (columns, rows))
    steps = torch.zeros_like(column)
    for bit in reversed(range(_HILBERT_BITS)):
        right, low = (column >> bit) & 1, (row >> bit) & 1
        steps = steps + (((3 * right) ^ low) << (2 * bit))
        # The quarter's own curve lies turned: mirrored at one diagonal, or at the other.
        flipped = (right == 1) & (low == 0)
        mask = (1 << bit) - 1
        column, row = (
            torch.where(flipped, mask - (value & mask), value & mask) for value in (column, row)
        )
        column, row = torch.where(low == 0, row, column), torch.where(low == 0, column, row)
    return steps.masked_fill(padding, torch.iinfo(torch.int64).max)


def _from_first(values: Tensor, left_out: Tensor) -> Tensor:
    first = values.masked_fill(left_out, _BELOW_ALL).amin(dim=1, keepdim=True)
    return torch.where(left_out, 0, values - first)


def _smallest_gap(values: Tensor, left_out: Tensor) -> Tensor:
    """(B, 1) the smallest difference between two values that are not equal, at least 1."""
    gaps = values.masked_fill(left_out, 0).sort(dim=1).values.diff(dim=1)
    gaps = torch.where(gaps > 0, gaps, _BELOW_ALL)
    return torch.nn.functional.pad(gaps, (0, 1), value=_BELOW_ALL).amin(dim=1, keepdim=True)
