"""Reads whatever it is given, file after file, and says how each of them went.

Started by `support.fuzzing` as a process of its own, which may die without harm. A line on stdin
names a kind and a file, parted by a tab; a line on stdout answers.
"""

from __future__ import annotations

import logging
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from xt_backend.batch import read_inputs, read_repeat
from xt_backend.config import ScoreOptions, load_yaml
from xt_backend.errors import XTError
from xt_backend.model import load_model, read_card
from xt_backend.outputs import read_slides_csv
from xt_backend.slides import open_slide, read_area, read_shapes
from xt_backend.store import ScoreMap, StoreKey
from xt_backend.store.shard import read_shard
from xt_backend.store.store_index import read_index

KEY = StoreKey("slide", {"region_px": 64}, {"weights": "w"})
"""Of the region store among the seeds."""

BUDGET_BYTES = 1 << 30
"""What reading a small file may take, beyond what the process has after its start."""


def slide(path: Path) -> None:
    """Everything that a run reads of a slide."""
    with open_slide(path) as opened:
        opened.identity()
        opened.thumbnail(256)
        for level, (width, height) in enumerate(opened.info.level_dimensions):
            for x, y in ((0, 0), (width // 2, height // 2), (width - 1, height - 1)):
                opened.read_level(level, x, y, 200, 200)
        if opened.info.mpp is not None:
            opened.read(3, 5, 64, 64, opened.info.mpp.value * 2)


def store(path: Path) -> None:
    """A shard of a region store."""
    shard = read_shard(path, KEY)
    shard.features(0, len(shard))


def index(path: Path) -> None:
    """The index of a region store."""
    read_index(path.parent)


def run(path: Path) -> None:
    """A score map."""
    found = ScoreMap.load(path)
    found.labels()
    found.fractions()


def table(path: Path) -> None:
    """slides.csv."""
    read_slides_csv(path)


def run_json(path: Path) -> None:
    """run.json, with a sound local.json beside it."""
    read_repeat(path)


def local_json(path: Path) -> None:
    """local.json, with a sound run.json beside it."""
    read_repeat(path.with_name("run.json"))


def model(path: Path) -> None:
    """A model file."""
    read_card(path)
    load_model(path, offline=True)


def geojson(path: Path) -> None:
    """Annotations or a region of interest."""
    read_shapes(path)
    read_area(path)


def manifest(path: Path) -> None:
    """A list of slides."""
    read_inputs([path])


def config(path: Path) -> None:
    """A YAML configuration."""
    ScoreOptions.checked(load_yaml(path, set(ScoreOptions.model_fields)))


READERS: dict[str, Callable[[Path], None]] = {
    "slide": slide, "store": store, "index": index, "run": run, "table": table,
    "run_json": run_json, "local_json": local_json, "model": model, "geojson": geojson,
    "manifest": manifest, "config": config,
}  # fmt: skip


def _peak_bytes() -> int:
    import resource  # not on Windows, where others use the key above

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _limit_memory(more_bytes: int) -> None:
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> None:
    """Answer until stdin ends."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    start = _peak_bytes()
    # Above what is counted against the budget: who asks for more is told, and does not swap.
    _limit_memory(4 * BUDGET_BYTES)
    print("ready", flush=True)
    for line in sys.stdin:
        kind, name = line.rstrip("\n").split("\t")
        try:
            READERS[kind](Path(name))
            answer = "read"
        except XTError:
            answer = "refused"
        except BaseException as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            what = " ".join(str(error).split())[:200]
            answer = f"unexpected {type(error).__name__} at {place.filename}:{place.lineno}: {what}"
        if (grown := _peak_bytes() - start) > BUDGET_BYTES:
            answer = f"memory {grown >> 20} MiB; {answer}"
            start += grown
        print(answer, flush=True)


if __name__ == "__main__":
    main()
