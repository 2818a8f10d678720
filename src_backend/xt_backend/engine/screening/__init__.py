"""Leaving out, after a look at low resolution, the regions that will hardly be what is sought."""

from .descriptors import describe
from .ranking import rank
from .recall import CONFIDENCE, cut_place, positives_needed, recall_bound
from .screen import Screen
from .sought import Sought, sought_in

__all__ = [
    "CONFIDENCE",
    "Screen",
    "Sought",
    "cut_place",
    "describe",
    "positives_needed",
    "rank",
    "recall_bound",
    "sought_in",
]
