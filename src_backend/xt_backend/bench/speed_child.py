"""One way from a slide to features, in its own process: ``python -m`` with JSON lines on stdin.

The first line says what to do; then every line is a job, answered by one line of JSON. Processes
differ in how their memory is managed, so that ways that need it differently cannot share one.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openslide
import torch
from safetensors.torch import save_file

from xt_backend.config import FeatureOptions
from xt_backend.engine import (
    BatchEncoder,
    Prepared,
    choose_device,
    collect,
    extract,
    features_shape,
    peak_memory_bytes,
    prepare,
    settle_encoder,
)
from xt_backend.model import RegionEncoder, build_region_encoder
from xt_backend.slides import Reader
from xt_backend.store import RegionStore, StoreKey

WEIGHTS = "encoder.safetensors"
FEATURES = "ours.npz"

Job = Callable[[], dict[str, Any]]


def main() -> None:
    """Answer jobs until stdin ends."""
    wanted: dict[str, Any] = json.loads(sys.stdin.readline())
    net = build_region_encoder(
        wanted["encoder"], region_px=wanted["region_px"], weights=wanted["weights"], offline=True
    )
    ways: dict[str, Callable[[dict[str, Any], RegionEncoder], dict[str, Job]]] = {
        "naive": _naive,
        "tuned": _tuned,
        "ours": _ours,
    }
    jobs = ways[wanted["way"]](wanted, net)
    _say({"ready": True})
    for line in sys.stdin:
        _say(jobs[line.strip()]())


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _loop(wanted: dict[str, Any], net: RegionEncoder, batch: int) -> dict[str, Job]:
    """The loop that users write: read, normalise, encode, and keep what comes out."""
    side = wanted["region_px"]
    mean = np.asarray(net.mean.flatten().tolist(), np.float32)
    std = np.asarray(net.std.flatten().tolist(), np.float32)

    def run() -> dict[str, Any]:
        found = []
        started = time.perf_counter()
        with openslide.OpenSlide(wanted["slide"]) as slide, torch.inference_mode():
            n_cols = slide.dimensions[0] // side
            places = [(i % n_cols * side, i // n_cols * side) for i in range(wanted["n_regions"])]
            for first in range(0, len(places), batch):
                images = []
                for place in places[first : first + batch]:
                    image = slide.read_region(place, 0, (side, side)).convert("RGB")
                    pixels = (np.asarray(image, np.float32) / 255 - mean) / std
                    images.append(torch.from_numpy(pixels.transpose(2, 0, 1)))
                stacked = torch.stack(images)
                if batch > 1:
                    stacked = stacked.to(memory_format=torch.channels_last)
                found.append(net(stacked).numpy())
        return {"seconds": time.perf_counter() - started, "regions": len(np.concatenate(found))}

    return {"run": run}


def _naive(wanted: dict[str, Any], net: RegionEncoder) -> dict[str, Job]:
    return _loop(wanted, net, 1)


def _tuned(wanted: dict[str, Any], net: RegionEncoder) -> dict[str, Job]:
    return _loop(wanted, net.to(memory_format=torch.channels_last), 8)


class _Ours:
    def __init__(self, wanted: dict[str, Any], net: RegionEncoder) -> None:
        self._wanted = wanted
        self._options = FeatureOptions(
            tissue="all",
            use_cache=False,
            region_px=wanted["region_px"],
            encoder_backend=wanted["backend"],
        )
        self._folder = tempfile.TemporaryDirectory(prefix="bench-speed-")
        device = choose_device("cpu")
        prepared = self._prepared(self._options)
        with prepared.slide:
            what, n = net.numerics(), len(prepared.cells)
            self._choice = settle_encoder(net, what, device, self._options, prepared, n)
            self._encoder = BatchEncoder(net, device, self._choice.way)
            self._encoder.prepare()
        self._net = net
        self._features: npt.NDArray[np.float32] = np.zeros((0, 0), np.float32)
        self._places: npt.NDArray[np.int64] = np.zeros((0, 2), np.int64)

    def _prepared(self, options: FeatureOptions, *, every: bool = False) -> Prepared:
        wanted = self._wanted
        path, side = Path(wanted["slide"]), wanted["region_px"]
        prepared = prepare(path, wanted["mpp"], side, options)
        return prepared if every else replace(prepared, cells=prepared.cells[: wanted["n_regions"]])

    @cached_property
    def _pixels(self) -> npt.NDArray[np.uint8]:
        """Read when first wanted: `walk` tells how much memory is needed without them."""
        prepared = self._prepared(self._options)
        with (
            prepared.slide,
            Reader(prepared.slide, prepared.lattice, prepared.cells, batch_size=16) as reader,
        ):
            return np.concatenate([batch.pixels for batch in reader])

    def way(self) -> dict[str, Any]:
        return {"way": str(self._choice.way), "reason": self._choice.reason}

    def run(self) -> dict[str, Any]:
        """Slide to features; opening the slide is told apart."""
        started = time.perf_counter()
        prepared = self._prepared(self._options)
        opened = time.perf_counter()
        with prepared.slide:
            features = np.zeros(features_shape(prepared, self._encoder), np.float16)
            found = collect(prepared, self._encoder, self._options, features)
            ended = time.perf_counter()
        self._features = features.mean(axis=1, dtype=np.float32)
        self._places = prepared.lattice.boxes(prepared.cells)[:, :2]
        return {
            "seconds": ended - opened,
            "seconds_open": opened - started,
            "regions": len(features),
            "stages": found.seconds,
        }

    def pure(self) -> dict[str, Any]:
        """The encoder alone, on the same regions in memory."""
        pixels = self._pixels
        started = time.perf_counter()
        n = len(self._encoder.encode(pixels))
        return {"seconds": time.perf_counter() - started, "regions": n}

    def hand_over(self) -> dict[str, Any]:
        """What another tool needs to compute the same: the weights as timm's, mean and std."""
        weights = self._net.backbone.state_dict()
        dense = {name: value.contiguous() for name, value in weights.items()}
        save_file(dense, Path(self._wanted["folder"], WEIGHTS))
        means, stds = self._net.mean.flatten().tolist(), self._net.std.flatten().tolist()
        return {"mean": means, "std": stds}

    def keep(self) -> dict[str, Any]:
        """Write what the last run found."""
        path = Path(self._wanted["folder"], FEATURES)
        np.savez(path, features=self._features, places=self._places)
        return {"regions": len(self._features)}

    def again(self) -> dict[str, Any]:
        """All regions of the slide, with a region store: first and second run."""
        cache = Path(self._folder.name, f"store-{time.monotonic_ns()}")
        options = self._options.model_copy(update={"use_cache": True, "cache": cache})
        seconds, encoded = [], []
        for _ in range(2):
            prepared, before = self._prepared(options, every=True), self._encoder.n_encoded
            with prepared.slide:
                started = time.perf_counter()
                features = np.zeros(features_shape(prepared, self._encoder), np.float16)
                collect(prepared, self._encoder, options, features)
                seconds.append(time.perf_counter() - started)
            encoded.append(self._encoder.n_encoded - before)
        return {
            "first": seconds[0],
            "second": seconds[1],
            "regions": encoded[0],
            "encoded_again": encoded[1],
        }

    def reload(self) -> dict[str, Any]:
        """Reading many stored features, all of them at once."""
        n, (per_region, dim) = self._wanted["reload_rows"], self._encoder.token_shape
        cells = np.stack(np.divmod(np.arange(n), 1000)[::-1], axis=1).astype(np.int32)
        key = StoreKey("bench", {}, {"rows": n})
        folder = Path(self._folder.name, "reload")
        store = RegionStore.open(folder, key)
        rng = np.random.default_rng(0)
        block = rng.normal(size=(256, per_region, dim)).astype(np.float16)
        for first in range(0, n, 256):
            some = cells[first : first + 256]
            store.append(some, block[: len(some)], np.zeros(len(some), np.uint8))
        store.join()  # as a run does when a slide is done
        best = np.inf
        for _ in range(3):
            started = time.perf_counter()
            found = RegionStore.open(folder, key).load(cells)[2]
            best = min(best, time.perf_counter() - started)
        return {"seconds": best, "regions": int(found.sum())}

    def walk(self) -> dict[str, Any]:
        """All regions of the slide, none of them kept; the peak is that of the process."""
        before = peak_memory_bytes()
        prepared = self._prepared(self._options)
        done = 0
        with prepared.slide:
            for part in extract(
                prepared.slide, prepared.lattice, prepared.cells, self._encoder, None
            ):
                done += len(part.rows)
        return {"regions": done, "peak_bytes": peak_memory_bytes(), "before_bytes": before}


def _ours(wanted: dict[str, Any], net: RegionEncoder) -> dict[str, Job]:
    ours = _Ours(wanted, net)
    return {
        "way": ours.way,
        "run": ours.run,
        "pure": ours.pure,
        "hand-over": ours.hand_over,
        "keep": ours.keep,
        "again": ours.again,
        "reload": ours.reload,
        "walk": ours.walk,
    }


if __name__ == "__main__":
    main()
