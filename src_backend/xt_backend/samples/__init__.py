"""Seeded generator of sample slides with truth, and slides made of plain pictures."""

from __future__ import annotations

from xt_backend.samples.classes import CLASSES, SampleClass
from xt_backend.samples.pictures import Imported, import_pictures
from xt_backend.samples.pyramid import write_pyramid, write_pyramid_array
from xt_backend.samples.sample import Sample, write_samples

__all__ = [
    "CLASSES",
    "Imported",
    "Sample",
    "SampleClass",
    "import_pictures",
    "write_pyramid",
    "write_pyramid_array",
    "write_samples",
]
