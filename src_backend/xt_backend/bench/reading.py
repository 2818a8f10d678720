"""Reading against openslide-python on the same places, in turn, bit by bit equal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openslide

from xt_backend.errors import EngineError
from xt_backend.slides import Lattice, Reader, Slide, open_slide

from .benchmark import Benchmark, Case, Result, Workplace
from .noise_slide import MPP, TILE_PX, noise_slide
from .section import Section, Table, number
from .spec import BenchSpec

__all__ = ["Reading"]

OFFSET_PX = 100
"""Of the off-grid raster: every place lies over four tiles."""
AT_LEAST = 4

Place = tuple[int, int]
"""(x0_px, y0_px), level 0."""
Pixels = npt.NDArray[np.uint8]


class Reading(Benchmark):
    """Tiles, and a raster that lies across them; one thread and two."""

    name = "reading"
    title = "Reading a slide"

    def recipe(self, quick: bool) -> dict[str, Any]:
        """See `Benchmark`."""
        return {
            "side_px": 2048 if quick else 20480,
            "n_places": 20 if quick else 400,
            "rounds": 1 if quick else 5,
        }

    def cases(self, spec: BenchSpec) -> list[Case]:
        """See `Benchmark`."""
        return [{}]

    def measure(self, case: Case, workplace: Workplace) -> dict[str, Any]:
        """See `Benchmark`.

        Raises:
            EngineError: Something was read that OpenSlide reads otherwise.
        """
        recipe = self.recipe(workplace.spec.quick)
        n, rounds = recipe["n_places"], recipe["rounds"]
        workplace.tell("the slide")
        path = noise_slide(workplace.folder / "speed", recipe["side_px"])
        tiles, raster = _tiles(recipe["side_px"], n), _raster(recipe["side_px"], n)
        found = []
        for what, places in (("aligned tiles", tiles), ("off-grid raster", raster)):
            for threads in (1, 2):
                workplace.tell(f"{what}, threads: {threads}")
                theirs, ours = _timed(path, places, threads, rounds)
                found.append(_row(what, threads, len(places), theirs, ours))
        workplace.tell("off-grid raster by Reader")
        theirs, ours = _timed_reader(path, raster, rounds)
        found.append(_row("off-grid raster by `Reader`", 2, len(raster), theirs, ours))
        return {"rows": found}

    def section(self, results: Sequence[Result], quick: bool) -> Section:
        """See `Benchmark`."""
        recipe, rows = self.recipe(quick), results[0].values["rows"]
        lines = [
            [
                row["what"],
                str(row["threads"]),
                number(row["openslide_us"], 0),
                number(row["ours_us"], 0),
                number(row["openslide_us"] / row["ours_us"]),
                str(AT_LEAST),
            ]
            for row in rows
        ]
        return Section(
            self.title,
            [
                f"Places of {TILE_PX} px on a slide of {recipe['side_px']} x {recipe['side_px']} "
                "px in JPEG tiles with grain, by openslide-python and here, in turn, with fresh "
                f"handles in each of {recipe['rounds']} rounds; the fastest counts. Every pixel "
                "was compared and is the same. Each thread takes the next place when it is done "
                "with one. `Reader` is what a run reads with: it also puts the regions in order, "
                "into batches, which OpenSlide's time beside it does not hold."
            ],
            [
                Table(
                    ("what", "threads", "OpenSlide, us", "here, us", "x faster", "at least"),
                    lines,
                    "Microseconds a place:",
                )
            ],
        )


def _tiles(side_px: int, n: int) -> list[Place]:
    per_side = side_px // TILE_PX
    chosen = np.random.default_rng(1).choice(per_side**2, min(n, per_side**2), replace=False)
    return [(int(i % per_side) * TILE_PX, int(i // per_side) * TILE_PX) for i in chosen]


def _raster(side_px: int, n: int) -> list[Place]:
    per_side = side_px // TILE_PX - 1
    across = min(per_side, 40)
    down = max(1, min(per_side, n // across))
    return [
        (OFFSET_PX + col * TILE_PX, OFFSET_PX + row * TILE_PX)
        for row in range(down)
        for col in range(across)
    ]


def _row(what: str, threads: int, n: int, theirs: float, ours: float) -> dict[str, Any]:
    micro = 1e6 / n
    return {
        "what": what,
        "threads": threads,
        "openslide_us": theirs * micro,
        "ours_us": ours * micro,
    }


def _theirs(raw: openslide.OpenSlide, place: Place) -> Pixels:
    return np.asarray(raw.read_region(place, 0, (TILE_PX, TILE_PX)).convert("RGB"))


def _ours(slide: Slide, place: Place) -> Pixels:
    return slide.read_level(0, *place, TILE_PX, TILE_PX)


def _timed(path: Path, places: list[Place], threads: int, rounds: int) -> tuple[float, float]:
    """Seconds for all places, the fastest round of OpenSlide and of this project."""
    theirs, ours = [], []
    with ThreadPoolExecutor(threads) as pool:
        for turn in range(rounds):
            # Fresh handles: nobody begins with what the last round has left in a cache.
            with openslide.OpenSlide(path) as raw, open_slide(path) as slide:
                if not slide.reading.direct_levels:
                    raise EngineError(
                        f"Nothing is decoded directly: {slide.reading}",
                        "Install napari-xt anew: simplejpeg is missing or broken",
                    )
                theirs.append(_seconds(pool, threads, partial(_theirs, raw), places))
                ours.append(_seconds(pool, threads, partial(_ours, slide), places))
                for place in places if turn == 0 else ():
                    _compare(place, _ours(slide, place), _theirs(raw, place))
    return min(theirs), min(ours)


def _timed_reader(path: Path, places: list[Place], rounds: int) -> tuple[float, float]:
    theirs, ours = [], []
    cells = [((x - OFFSET_PX) // TILE_PX, (y - OFFSET_PX) // TILE_PX) for x, y in places]
    threads = 2
    with ThreadPoolExecutor(threads) as pool:
        for turn in range(rounds):
            with openslide.OpenSlide(path) as raw, open_slide(path) as slide:
                extent = slide.info.width_px - OFFSET_PX, slide.info.height_px - OFFSET_PX
                bounds = (OFFSET_PX, OFFSET_PX, *extent)
                lattice = Lattice.for_bounds(bounds, (MPP, MPP), MPP, TILE_PX)
                theirs.append(_seconds(pool, threads, partial(_theirs, raw), places))
                slide.reading.direct_levels  # noqa: B018 the comparison is made once a slide
                began = time.perf_counter()
                with Reader(slide, lattice, np.asarray(cells, np.int32), batch_size=16) as reader:
                    for _ in reader:
                        pass
                ours.append(time.perf_counter() - began)
                if turn == 0:
                    with Reader(slide, lattice, np.asarray(cells), batch_size=16) as reader:
                        seen = np.concatenate([batch.pixels for batch in reader])
                    for place, pixels in zip(places, seen, strict=True):
                        _compare(place, pixels, _theirs(raw, place))
    return min(theirs), min(ours)


def _compare(place: Place, ours: Pixels, theirs: Pixels) -> None:
    if not np.array_equal(ours, theirs):
        raise EngineError(f"At {place} OpenSlide reads other pixels", "Please report this")


def _seconds(
    pool: ThreadPoolExecutor, threads: int, read: Callable[[Place], Pixels], places: list[Place]
) -> float:
    """For all places; every thread takes the next as soon as it is done with one."""
    # Not as a future each: what those cost is no part of reading, on either side.
    following = iter(places)
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                place = next(following, None)
            if place is None:
                return
            read(place)

    began = time.perf_counter()
    for done in [pool.submit(work) for _ in range(threads)]:
        done.result()
    return time.perf_counter() - began
