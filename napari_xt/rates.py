"""How quick earlier runs were."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_xt.kept import keep, read_kept
from xt_backend.keys import FeaturesMeta, RunMeta

if TYPE_CHECKING:
    from xt_backend.engine.events import RunFinished

__all__ = ["machine_of", "rate_of", "remember_rate"]

_FEWEST = 50
"""Encoded regions from which on a run tells how quick the next one will be."""
_MOST_KEPT = 200
_RATES = "rates.json"


def machine_of(device: str, address: str) -> str:
    """What a rate is kept for: a device of this machine, or of the one at an address."""
    return f"{device} at {address}" if address else device


def rate_of(weights_sha256: str, device: str) -> float | None:
    """Regions per second of the last run on a device, None before there was one.

    Models that share a region encoder, as one that was corrected and the one it was made from, are
    as quick as each other: the rest takes next to nothing.

    Args:
        weights_sha256: Of the region encoder.
        device: As it was chosen, e.g. ``auto``.
    """
    rate = _read().get(f"{weights_sha256}/{device}")
    return rate if isinstance(rate, float) and rate > 0 else None


def remember_rate(event: RunFinished, device: str) -> None:
    """Keep how quick a run was, for this user and machine.

    Args:
        event: Of a run that has ended.
        device: As it was chosen, e.g. ``auto``.
    """
    seconds = event.seconds.get("encode", 0.0) + event.seconds.get("wait", 0.0)
    told = event.score_map.run_meta.get(RunMeta.FEATURES, {})
    weights = told.get(FeaturesMeta.NUMERICS, {}).get("weights_sha256")
    if weights is None or event.encoded_regions < _FEWEST or seconds <= 0:
        return
    rates = _read()
    name = f"{weights}/{device}"
    rates.pop(name, None)
    rates[name] = event.encoded_regions / seconds
    keep(_RATES, dict(list(rates.items())[-_MOST_KEPT:]))


def _read() -> dict[str, float]:
    rates = read_kept(_RATES)
    return rates if isinstance(rates, dict) else {}
