"""Reports to be read by people: one HTML file a slide, one for the batch, each self-contained."""

from __future__ import annotations

from xt_backend.outputs.report.batch_page import MOST_THUMBNAILS, BatchFacts, write_batch_page
from xt_backend.outputs.report.model_facts import ModelFacts
from xt_backend.outputs.report.picture import (
    mask_uri,
    overlay_picture,
    picture_uri,
    thumbnail_uri,
)
from xt_backend.outputs.report.slide_page import SlideFacts, write_slide_page

__all__ = [
    "MOST_THUMBNAILS",
    "BatchFacts",
    "ModelFacts",
    "SlideFacts",
    "mask_uri",
    "overlay_picture",
    "picture_uri",
    "thumbnail_uri",
    "write_batch_page",
    "write_slide_page",
]
