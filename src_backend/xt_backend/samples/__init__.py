"""Seeded generator of sample slides with truth."""

from __future__ import annotations

from xt_backend.samples.classes import CLASSES, SampleClass
from xt_backend.samples.pyramid import write_pyramid, write_pyramid_array
from xt_backend.samples.sample import Sample, write_samples

__all__ = [
    "CLASSES",
    "Sample",
    "SampleClass",
    "write_pyramid",
    "write_pyramid_array",
    "write_samples",
]
