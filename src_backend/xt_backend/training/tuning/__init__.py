"""Correcting a model: its heads or context encoder learn from what somebody corrected.

Names are loaded when first used: specs need no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xt_backend import lazy

if TYPE_CHECKING:
    from .job import TuneJob
    from .result import Change, TuneResult
    from .spec import Correction, TuneSpec
    from .tuner import check_model, corrections_in, tune

_HOMES = {
    "Change": "result",
    "Correction": "spec",
    "TuneJob": "job",
    "TuneResult": "result",
    "TuneSpec": "spec",
    "check_model": "tuner",
    "corrections_in": "tuner",
    "tune": "tuner",
}

__all__ = [
    "Change",
    "Correction",
    "TuneJob",
    "TuneResult",
    "TuneSpec",
    "check_model",
    "corrections_in",
    "tune",
]


__getattr__ = lazy.attributes(__name__, _HOMES)
