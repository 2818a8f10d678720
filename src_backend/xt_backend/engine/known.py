"""What earlier runs have encoded of the regions of a slide."""

from __future__ import annotations

from pathlib import Path

from xt_backend.errors import StoreError
from xt_backend.store import RegionStore, keys_of_slide, plain_json

from .preparation import Prepared

__all__ = ["known_regions"]


def known_regions(prepared: Prepared, weights_sha256: str, cache: Path | None) -> int:
    """How many of the chosen regions a run with these weights need not encode.

    Of the ways to compute the encoder, the one that knows most counts. No model is loaded.

    Args:
        prepared: The slide with its regions.
        weights_sha256: Of the region encoder.
        cache: Folder of the region stores; None knows nothing.
    """
    if cache is None or not len(prepared.cells):
        return 0
    lattice, most = plain_json(prepared.lattice.to_dict()), 0
    for key in keys_of_slide(cache, prepared.slide.identity()):
        if key.numerics.get("weights_sha256") != weights_sha256:
            continue
        if {name: key.lattice.get(name) for name in lattice} != lattice:
            continue
        try:
            most = max(most, int(RegionStore.open(cache, key).has(prepared.cells).sum()))
        except StoreError:  # the run says what is wrong with it
            continue
    return most
