"""Which pages the panel has beside the run: one line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_xt.any_image import ImageBar
from napari_xt.ask import AskPage
from napari_xt.correct import CorrectPage
from napari_xt.save_page import SavePage

if TYPE_CHECKING:
    from napari_xt.chosen import Chosen
    from napari_xt.pages import Pages

__all__ = ["add_pages"]


def add_pages(pages: Pages, chosen: Chosen) -> None:
    """Add the pages for what can be done with a result.

    Args:
        pages: Gets them.
        chosen: What they are about.
    """
    pages.add("Ask", AskPage(chosen), "Ask what a prediction looked at, and what would be if.")
    correct = CorrectPage(chosen)
    correct.model_made.connect(chosen.model_made)
    pages.add("Correct", correct, "Show the model what it got wrong, and train it.")
    pages.add("Save", SavePage(chosen), "Save the run, or copy the command that makes the same.")
    pages.put_above(ImageBar(chosen.viewer))
