"""Sample slides with truth, written to a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from xt_backend.errors import UsageError
from xt_backend.publishing import make_folder, publish
from xt_backend.samples.annotations import geojson_bytes, mask_png_bytes, truth_mask
from xt_backend.samples.layout import MPP, Layout, draw_layout
from xt_backend.samples.pyramid import write_pyramid
from xt_backend.samples.render import Renderer

__all__ = ["Sample", "write_samples"]


@dataclass(frozen=True)
class Sample:
    """The files of one sample slide.

    Args:
        slide: Pyramidal TIFF, 0.5 um/px.
        annotations: QuPath GeoJSON in level-0 px.
        truth: Mask, one pixel per 8 x 8 level-0 px.
    """

    slide: Path
    annotations: Path
    truth: Path


def write_samples(
    out: Path,
    n: int = 1,
    size_px: int | tuple[int, int] = 4096,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> list[Sample]:
    """Write sample slides with annotations and truth masks.

    A slide depends on the seed, its number and its size only: the same bytes every time with
    the same versions of the libraries, however many are asked for.

    Args:
        out: Folder; made if missing. Files of the same names are replaced.
        n: Number of slides.
        size_px: Side, or (width, height), of each slide; at least 1024.
        seed: Not negative.
        progress: Called with the number of slides done, e.g. 1.25.

    Returns:
        One entry per slide, `sample_<seed>_<number>`.

    Raises:
        UsageError: `n`, `size_px` or `seed` is out of range.
        OutputError: The files cannot be written.
    """
    width_px, height_px = (size_px, size_px) if isinstance(size_px, int) else size_px
    if n < 1 or seed < 0:
        raise UsageError(
            f"{n} slides with seed {seed}", "Ask for at least one slide and a seed of 0 or more"
        )
    samples = []
    for number in range(n):
        layout = draw_layout(width_px, height_px, (seed, number))
        make_folder(out)
        name = f"sample_{seed}_{number}"
        sample = Sample(*(out / f"{name}{end}" for end in (".tiff", ".geojson", ".truth.png")))
        with publish(sample.slide) as partial:
            strips = _strips(layout, seed, number, progress)
            write_pyramid(partial, strips, width_px, height_px, mpp=(MPP, MPP))
        with publish(sample.annotations) as partial:
            partial.write_bytes(geojson_bytes(layout, name))
        with publish(sample.truth) as partial:
            partial.write_bytes(mask_png_bytes(truth_mask(layout)))
        samples.append(sample)
    return samples


def _strips(
    layout: Layout, seed: int, number: int, progress: Callable[[float], None] | None
) -> Iterator[npt.NDArray[np.uint8]]:
    """The pixels of slide `number`, each strip reported once it has been written."""
    done = 0
    for strip in Renderer.seeded(layout, (seed, number)).strips():
        yield strip
        done += len(strip)
        if progress is not None:
            progress(number + done / layout.height_px)
