"""One field as large as the paper's largest: does it fit into memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from xt_backend.keys import DEFAULT_COLORS
from xt_backend.publishing import publish_bytes
from xt_backend.samples.qupath import annotation, collection_bytes

from .benchmark import Benchmark, Case, Result, Workplace
from .noise_slide import MPP, TILE_PX, noise_slide
from .section import Section, Table, number
from .spec import BenchSpec
from .worker import open_worker

__all__ = ["LargeSlide"]

GB = 1e9
LIMIT_GB = 6
VAL_PX = 8 * TILE_PX


class LargeSlide(Benchmark):
    """A training step through the region encoder, and a prediction, each in its own process."""

    name = "large-slide"
    title = "One field as large as the paper's largest"

    def recipe(self, quick: bool) -> dict[str, Any]:
        """See `Benchmark`."""
        return {
            "encoder": "mobilenetv3_small_050",
            "width_px": 1280 if quick else 29000,
            "height_px": 1024 if quick else 25000,
            "region_px": TILE_PX,
            "grad_ratio": 0.1,
            "context": "mamba2",
        }

    def cases(self, spec: BenchSpec) -> list[Case]:
        """See `Benchmark`."""
        return [{}]

    def measure(self, case: Case, workplace: Workplace) -> dict[str, Any]:
        """See `Benchmark`."""
        recipe, folder = self.recipe(workplace.spec.quick), workplace.folder / "large-slide"
        workplace.tell("the slide")
        size = recipe["width_px"], recipe["height_px"]
        slide = _halves(folder / "train", *size)
        asked = {
            **recipe,
            "mpp": MPP,
            "slide": str(slide),
            "val": str(_halves(folder / "val", VAL_PX, VAL_PX).parent),
            "model": str(folder / "large.safetensors"),
        }
        found = {}
        for job in ("train", "predict"):
            workplace.tell(job)
            command = [sys.executable, "-m", f"{__package__}.large_slide_child"]
            with open_worker(command, asked, dict(os.environ)) as child:
                found[job] = child.ask(job)
        return found

    def section(self, results: Sequence[Result], quick: bool) -> Section:
        """See `Benchmark`."""
        recipe, values = self.recipe(quick), results[0].values
        names = {"train": "one training step, end to end", "predict": "prediction"}
        rows = [
            [
                what,
                f"{values[job]['regions']:,}",
                number(values[job]["peak_bytes"] / GB),
                f"under {LIMIT_GB}",
                number(values[job]["seconds"] / 60, 1),
            ]
            for job, what in names.items()
        ]
        return Section(
            self.title,
            [
                f"A slide of {recipe['width_px']:,} x {recipe['height_px']:,} px in JPEG tiles "
                f"with grain, as one field: all regions of {recipe['region_px']} px are context "
                "of each other. "
                f"`{recipe['encoder']}` with random weights and {recipe['context']} in the "
                "recipe's size. In the step gradients go through the region encoder for "
                f"{recipe['grad_ratio']:.0%} of the regions; its minutes hold all that a training "
                "does besides: looking for tissue, whitening, validation on a small slide, "
                "statistics of the features. Memory is the peak of the whole process.",
            ],
            [Table(("on the CPU", "regions", "GB", "wanted", "minutes"), rows)],
        )


def _halves(folder: Path, width_px: int, height_px: int) -> Path:
    """A slide whose left half is annotated as one class and its right half as another."""
    slide = noise_slide(folder, width_px, height_px)
    marks = []
    for index, name in enumerate(("left", "right")):
        x0, x1 = index * width_px // 2, (index + 1) * width_px // 2
        ring = [[x0, 0], [x1, 0], [x1, height_px], [x0, height_px], [x0, 0]]
        geometry = {"type": "Polygon", "coordinates": [ring]}
        marks.append(annotation(uuid5(NAMESPACE_OID, name), geometry, name, DEFAULT_COLORS[index]))
    publish_bytes(slide.with_suffix(".geojson"), collection_bytes(marks))
    return slide
