"""The classes of the sample slides: the one place for their names, colours and mask values."""

from __future__ import annotations

from dataclasses import dataclass

from xt_backend.samples.qupath import rgb_of

__all__ = ["CLASSES", "MASK_GLASS", "NEST", "NORMAL", "OTHER", "REACTIVE", "SampleClass"]

MASK_GLASS = 0
"""Value of the truth mask where there is no tissue."""


@dataclass(frozen=True)
class SampleClass:
    """One class of the truth.

    Args:
        name: As it stands in the annotations and in a model's class list.
        color: ``#rrggbb``, from the Okabe-Ito palette and grey, which stay apart for
            colour-blind viewers.
        mask_value: Value in the truth mask (index in `CLASSES` plus one).
        meaning: One line for readers.
    """

    name: str
    color: str
    mask_value: int
    meaning: str

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Red, green and blue, 0 to 255."""
        return rgb_of(self.color)


NORMAL = SampleClass("normal", "#0072B2", 1, "stroma of a lobule without a nest")
REACTIVE = SampleClass("reactive", "#E69F00", 2, "the same stroma in a lobule that holds a nest")
NEST = SampleClass("nest", "#CC0033", 3, "solid sheet of large dark nuclei")
OTHER = SampleClass("other", "#999999", 4, "tissue between the lobules: fat, loose collagen, ducts")

CLASSES = (NORMAL, REACTIVE, NEST, OTHER)
