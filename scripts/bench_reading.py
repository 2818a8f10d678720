"""Reading against openslide-python on the same places, in one interleaved run, bit by bit equal.

Usage: python scripts/bench_reading.py [SLIDE] [--json] [--repeats N]
Without a slide, one of 20 480 x 20 480 px with JPEG noise is made in a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openslide

from xt_backend.bench.noise_slide import TILE_PX, noise_slide
from xt_backend.slides import Lattice, Reader, Slide, open_slide

N_PLACES = 400
OFFSET_PX = 100

Place = tuple[int, int]
Pixels = np.ndarray[Any, Any]


def reading_rows(path: Path, repeats: int = 5) -> list[dict[str, Any]]:
    """Rows of the benchmark: what, threads, us per place of both, ratio, least ratio wanted.

    Args:
        path: A slide whose tiles are 256 px.
        repeats: Of each side, taken in turns; the quickest counts.

    Raises:
        AssertionError: A pixel differs.
    """
    rng = np.random.default_rng(1)
    with openslide.OpenSlide(path) as raw:
        width, height = raw.dimensions
    n_cols, n_rows = width // TILE_PX, height // TILE_PX
    chosen = rng.choice(n_cols * n_rows, min(N_PLACES, n_cols * n_rows), replace=False)
    aligned = [(int(i % n_cols) * TILE_PX, int(i // n_cols) * TILE_PX) for i in chosen]
    across = min(n_cols - 1, 40)
    down = max(1, min(n_rows - 1, N_PLACES // across))
    raster = [
        (OFFSET_PX + col * TILE_PX, OFFSET_PX + row * TILE_PX)
        for row in range(down)
        for col in range(across)
    ]
    rows = []
    for what, places in (("aligned tiles", aligned), ("off-grid raster", raster)):
        for threads in (1, 2):
            rows.append(
                _row(
                    what,
                    threads,
                    len(places),
                    _timed(path, places, threads, repeats, _ours),
                )
            )
    rows.append(
        _row("off-grid raster by Reader", 2, len(raster), _timed_reader(path, raster, repeats))
    )
    return rows


def _row(what: str, threads: int, n: int, seconds: tuple[float, float]) -> dict[str, Any]:
    theirs, ours = seconds
    return {
        "what": what,
        "threads": threads,
        "openslide_us": theirs / n * 1e6,
        "ours_us": ours / n * 1e6,
        "ratio": theirs / ours,
        "at_least": 4.0,
    }


def _ours(slide: Slide, place: Place) -> Pixels:
    return slide.read_level(0, *place, TILE_PX, TILE_PX)


def _theirs(raw: openslide.OpenSlide, place: Place) -> Pixels:
    return np.asarray(raw.read_region(place, 0, (TILE_PX, TILE_PX)).convert("RGB"))


def _timed(
    path: Path,
    places: Sequence[Place],
    threads: int,
    repeats: int,
    read: Callable[[Slide, Place], Pixels],
) -> tuple[float, float]:
    theirs, ours = [], []
    with ThreadPoolExecutor(threads) as pool:
        for repeat in range(repeats):
            # Fresh handles: nobody begins with what the last repeat has left in a cache.
            with openslide.OpenSlide(path) as raw, open_slide(path) as slide:
                if not slide.reading.direct_levels:
                    raise SystemExit(f"nothing is decoded directly: {slide.reading}")
                theirs.append(_seconds(pool, lambda place, raw=raw: _theirs(raw, place), places))
                ours.append(_seconds(pool, lambda place, slide=slide: read(slide, place), places))
                for place in places if repeat == 0 else ():
                    np.testing.assert_array_equal(read(slide, place), _theirs(raw, place))
    return min(theirs), min(ours)


def _timed_reader(path: Path, places: Sequence[Place], repeats: int) -> tuple[float, float]:
    theirs, ours = [], []
    cells = [((x - OFFSET_PX) // TILE_PX, (y - OFFSET_PX) // TILE_PX) for x, y in places]
    with ThreadPoolExecutor(2) as pool:
        for repeat in range(repeats):
            with openslide.OpenSlide(path) as raw, open_slide(path, slide_mpp=0.5) as slide:
                extent = slide.info.width_px - OFFSET_PX, slide.info.height_px - OFFSET_PX
                bounds = (OFFSET_PX, OFFSET_PX, *extent)
                lattice = Lattice.for_bounds(bounds, (0.5, 0.5), 0.5, TILE_PX)
                theirs.append(_seconds(pool, lambda place, raw=raw: _theirs(raw, place), places))
                slide.reading.direct_levels  # noqa: B018 the comparison is made once a slide
                began = time.perf_counter()
                with Reader(slide, lattice, cells, batch_size=16) as reader:
                    batches = [batch.pixels for batch in reader]
                ours.append(time.perf_counter() - began)
                if repeat == 0:
                    for place, seen in zip(places, np.concatenate(batches), strict=True):
                        np.testing.assert_array_equal(seen, _theirs(raw, place))
    return min(theirs), min(ours)


def _seconds(
    pool: ThreadPoolExecutor, read: Callable[[Place], Pixels], places: Sequence[Place]
) -> float:
    began = time.perf_counter()
    for _ in pool.map(read, places):
        pass
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slide", type=Path, nargs="?")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-reading-") as folder:
        path = arguments.slide or noise_slide(Path(folder), 20480)
        rows = reading_rows(path, arguments.repeats)
    if arguments.json:
        print(json.dumps({"rows": rows}))
        return
    for row in rows:
        print(
            f"{row['what']:<28} {row['threads']} threads  openslide {row['openslide_us']:6.0f} us  "
            f"ours {row['ours_us']:6.0f} us  {row['ratio']:.2f} x (at least {row['at_least']:g} x)"
        )


if __name__ == "__main__":
    main()
