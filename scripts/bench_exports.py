#!/usr/bin/env python3
"""Time and memory of exporting a slide with 300,000 regions, each format in a process of its own.

    scripts/bench_exports.py [--regions N] [--dim D] [--only KIND]...

Prints for each the seconds that writing takes, those of them that the processor worked (what counts
on a machine with other work), and the most memory of the whole process, the score map and Python
among it. Features of D numbers a region (1,280) come out of a region store, as `export` takes them.
Nothing is kept. Features take about 4 GB of disk in the folder for temporary files.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.score_maps import patchy_map

from xt_backend.outputs import (
    LAYOUTS,
    PREDICTION_FORMATS,
    FeatureTable,
    PredictionOptions,
    get_layout,
    write_features,
)
from xt_backend.slides.lattice import Lattice
from xt_backend.store import RegionStore, ScoreMap, StoredRows, StoreKey

KINDS = {
    "geojson": ("geojson", {}),
    "geojson --gzip": ("geojson", {"compressed": True}),
    "geojson --merged": ("geojson", {"merged": True}),
    "wsinfer": ("wsinfer", {}),
    "parquet": ("parquet", {}),
    "ome-tiff": ("ome-tiff", {}),
}
FEATURES = tuple(f"features {name}" for name in LAYOUTS)
KEY = StoreKey("large", {}, {"encoder": "bench", "weights_sha256": "0" * 64})


def large_map(n: int) -> ScoreMap:
    """A prediction as a model gives it."""
    side = int(np.ceil(np.sqrt(n))) * 512
    return patchy_map(Lattice.for_bounds((0, 0, side, side), (0.25, 0.25), 0.5, 256), n)


def fill_store(cache: Path, score_map: ScoreMap, dim: int) -> None:
    """Features of every region, in shards as a run leaves them."""
    store, rng = RegionStore.open(cache, KEY), np.random.default_rng(0)
    for first in range(0, len(score_map), 8192):
        cells = score_map.cells[first : first + 8192]
        features = rng.standard_normal((len(cells), 1, dim), np.float32).astype(np.float16)
        store.append(cells, features, np.zeros(len(cells), np.uint8))


def measure(kind: str, path: Path) -> None:
    if kind in FEATURES:
        _print(*_write_features(kind.removeprefix("features "), path))
    else:
        _print(*_write_predictions(kind, path))


def _write_features(layout: str, path: Path) -> tuple[float, float, int]:
    score_map, store = ScoreMap.load(path), RegionStore.open(path.parent / "cache", KEY)
    tokens = store.load(score_map.cells[:1])[0].shape[1:]
    table = FeatureTable(
        slide_id="large",
        size_px=(score_map.width_px, score_map.height_px),
        lattice=score_map.lattice,
        cells=score_map.cells,
        status=score_map.status,
        features=StoredRows(store, score_map.cells, score_map.scored, tokens),
        numerics={},
        encoder="bench",
        score_map=score_map,
    )
    get_layout(layout).check("region")
    started, worked = time.perf_counter(), time.process_time()
    paths = write_features(get_layout(layout), path.parent / "features", table)
    seconds, cpu = time.perf_counter() - started, time.process_time() - worked
    return seconds, cpu, sum(written.stat().st_size for written in paths)


def _write_predictions(kind: str, path: Path) -> tuple[float, float, int]:
    name, options = KINDS[kind]
    made, asked = PREDICTION_FORMATS[name], PredictionOptions(**options)
    score_map = ScoreMap.load(path)
    target = path.with_name("exported" + made.file("", asked).rpartition("/")[2])
    started, worked = time.perf_counter(), time.process_time()
    made.write(target, score_map, asked, None)
    seconds, cpu = time.perf_counter() - started, time.process_time() - worked
    return seconds, cpu, target.stat().st_size


def _print(seconds: float, cpu: float, size: int) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak": peak, "bytes": size}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--regions", type=int, default=300_000)
    parser.add_argument("--dim", type=int, default=1280)
    parser.add_argument("--only", action="append", choices=(*KINDS, *FEATURES))
    parser.add_argument("--measure", nargs=2, metavar=("KIND", "MAP"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure[0], Path(arguments.measure[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "large.run.h5")
        score_map = large_map(arguments.regions)
        score_map.save(path)
        kinds = arguments.only or (*KINDS, *FEATURES)
        if set(kinds) & set(FEATURES):
            fill_store(Path(folder, "cache"), score_map, arguments.dim)
        print(f"{arguments.regions:,} regions")
        print(f"{'':20}{'seconds':>9}{'CPU':>7}{'MB memory':>11}{'MB file':>9}")
        for kind in kinds:
            command = [sys.executable, __file__, "--measure", kind, str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            shutil.rmtree(Path(folder, "features"), ignore_errors=True)
            found = json.loads(done.stdout)
            print(
                f"{kind:20}{found['seconds']:9.1f}{found['cpu']:7.1f}{found['peak'] / 1e6:11.0f}"
                f"{found['bytes'] / 1e6:9.1f}"
            )


if __name__ == "__main__":
    main()
