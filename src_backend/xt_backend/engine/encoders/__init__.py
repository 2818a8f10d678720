"""Ways to compute a region encoder: torch on any device, CUDA with overlap, OpenVINO on the CPU."""

from __future__ import annotations

from .base import Done, EncoderBackend, Features, Pending, Pixels
from .batches import compute_batch, computing, padded_batch, run_halving
from .choice import EncoderChoice, Trial
from .choose import asked_way, check_backend, choose_way, known_choice
from .make import make_backend
from .probing import Judge, failure_words, probe
from .way import Way, usual_way

__all__ = [
    "Done",
    "EncoderBackend",
    "EncoderChoice",
    "Features",
    "Judge",
    "Pending",
    "Pixels",
    "Trial",
    "Way",
    "asked_way",
    "check_backend",
    "choose_way",
    "compute_batch",
    "computing",
    "failure_words",
    "known_choice",
    "make_backend",
    "padded_batch",
    "probe",
    "run_halving",
    "usual_way",
]
