"""Mutation fuzzing of everything that is read, in a process that may die.

`scripts/fuzz` runs it for as long as one likes, the test suite for seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from support.fuzz_child import KEY
from support.jpeg_slides import write_jpeg_slide
from support.models import write_tiny_model
from support.mutations import damage_bytes, damage_text
from support.slides import tissue_image, write_tiff_slide
from xt_backend import score
from xt_backend.store import RegionStore

__all__ = ["Found", "Fuzzer", "write_seeds"]

_TEXT = {"index", "table", "run_json", "local_json", "geojson", "manifest", "config"}
_NAMES = {"index": "index.json", "table": "slides.csv", "run_json": "run.json",
          "local_json": "local.json"}  # fmt: skip
_CONFIG = """batch_size: 8
slide-mpp: 0.5
tissue: all
layouts: [parquet]
roi: {type: Polygon, coordinates: [[[0, 0], [9, 0], [9, 9], [0, 0]]]}
max_failed_fraction: 0.05
"""


def write_seeds(folder: Path) -> None:
    """Sound files of every kind, small: ``<kind>/<name>``."""
    image = tissue_image(256, 256, ((0, 0, 256, 256),))
    aperio = "Aperio Image Library v11\r\n256x256|AppMag = 20|MPP = 0.5"
    for kind in ("slide", "store", "index", "run", "table", "run_json", "local_json", "model",
                 "geojson", "manifest", "config"):  # fmt: skip
        (folder / kind).mkdir(parents=True)
    slides = folder / "slide"
    write_tiff_slide(slides / "deflate.tiff", image, levels=2)
    write_jpeg_slide(slides / "jpeg.tiff", [image, image[::4, ::4].copy()], mpp=0.5)
    write_jpeg_slide(slides / "tables.svs", [image], rgb=True, tables=True, aperio=aperio)
    model = write_tiny_model(folder / "model" / "tiny.safetensors")
    run = folder / "made"
    score(slides / "deflate.tiff", str(model), run, tissue="all", use_cache=False)
    (stem,) = run.glob("*.run.h5")
    shutil.copy(stem, folder / "run" / "x.run.h5")
    for kind, name in (("table", "slides.csv"), ("run_json", "run.json"),
                       ("local_json", "local.json")):  # fmt: skip
        shutil.copy(run / name, folder / kind / name)
    (geojson,) = run.glob("*.geojson")
    shutil.copy(geojson, folder / "geojson" / "tiles.geojson")
    hole = [[[0, 0], [90, 0], [90, 90], [0, 90], [0, 0]], [[9, 9], [20, 9], [20, 20], [9, 9]]]
    (folder / "geojson" / "hole.geojson").write_text(
        json.dumps({"type": "Feature", "geometry": {"type": "MultiPolygon", "coordinates": [hole]},
                    "properties": {"classification": {"name": "a", "color": [1, 2, 3]}}})
    )  # fmt: skip
    opened = RegionStore.open(folder / "cache", KEY)
    cells = np.stack([np.arange(20), np.zeros(20)], 1).astype(np.int32)
    opened.append(cells, np.ones((20, 1, 8), np.float16), np.zeros(20, np.uint8))
    (shard,) = opened.folder.glob("*.h5")
    shutil.copy(shard, folder / "store" / "shard.h5")
    shutil.copy(opened.folder / "index.json", folder / "index" / "index.json")
    (folder / "manifest" / "list.csv").write_text(
        "slide,slide_mpp,roi,label,patient\na.tiff,0.5,r.geojson,x,p\nb.tiff,,,,\n"
    )
    (folder / "config" / "options.yaml").write_text(_CONFIG)


@dataclass
class Found:
    """What fuzzing came to.

    Attributes:
        counts: Inputs by answer: ``read``, ``refused``, or the first word of a fault.
        by_kind: Number of inputs of each kind.
        faults: Sentences, with the file that shows each.
    """

    counts: Counter[str] = field(default_factory=Counter)
    by_kind: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


class Fuzzer:
    """Feeds damaged copies of sound files to a reader process, and starts it again if it dies.

    Args:
        seeds: Folder of `write_seeds`; further files may lie in its folders.
        keep: Inputs that show a fault are kept here.
        seed: The same gives the same inputs.
        hang_s: An input that computes longer, or waits ten times as long, hangs.
        reader: Module that reads.
    """

    def __init__(
        self,
        seeds: Path,
        keep: Path,
        seed: int = 1,
        hang_s: float = 60,
        reader: str = "support.fuzz_child",
    ) -> None:
        self._reader = reader
        self._rng = random.Random(seed)
        self._keep = keep
        self._hang_s = hang_s
        self._seeds = {
            folder.name: [path.read_bytes() for path in sorted(folder.iterdir())]
            for folder in sorted(seeds.iterdir())
            if folder.name not in ("made", "cache")
        }
        self._suffixes = {
            kind: [path.suffix for path in sorted((seeds / kind).iterdir())] for kind in self._seeds
        }
        self._child: subprocess.Popen[str] | None = None
        self.found = Found()

    def run(self, kinds: Sequence[str], n: int) -> None:
        """Damage and read `n` inputs of each kind, and each sound file once."""
        with tempfile.TemporaryDirectory(prefix="napari-xt-fuzz-") as name:
            folder = Path(name)
            try:
                for kind in kinds or self._seeds:
                    for suffix, data in self._inputs(kind, n):
                        self._one(folder, kind, suffix, data)
            finally:
                self._stop()

    def _inputs(self, kind: str, n: int) -> Iterator[tuple[str, bytes]]:
        sound = list(zip(self._suffixes[kind], self._seeds[kind], strict=True))
        yield from sound
        for _ in range(n):
            suffix, data = self._rng.choice(sound)
            if kind in _TEXT:
                yield suffix, damage_text(data, self._rng)
            elif kind == "model" and self._rng.random() < 0.6:
                yield suffix, self._card(data)
            else:
                # Headers lie at the front, directories of TIFF files also at the end.
                near = self._rng.choice((range(min(600, len(data))),
                                         range(max(0, len(data) - 2000), len(data))))  # fmt: skip
                yield suffix, damage_bytes(data, self._rng, near)

    def _card(self, data: bytes) -> bytes:
        """A model file whose header is damaged, but as long as it says."""
        length = int.from_bytes(data[:8], "little")
        header = damage_text(data[8 : 8 + length], self._rng)
        return len(header).to_bytes(8, "little") + header + data[8 + length :]

    def _one(self, folder: Path, kind: str, suffix: str, data: bytes) -> None:
        path = folder / kind / _NAMES.get(kind, f"input{suffix}")
        path.parent.mkdir(exist_ok=True)
        if kind in ("run_json", "local_json"):
            other = "local_json" if kind == "run_json" else "run_json"
            path.with_name(_NAMES[other]).write_bytes(self._seeds[other][0])
        path.write_bytes(data)
        answer = self._ask(kind, path)
        self.found.by_kind[kind] += 1
        self.found.counts[answer.split()[0]] += 1
        if answer in ("read", "refused"):
            return
        self._keep.mkdir(parents=True, exist_ok=True)
        kept = self._keep / f"{kind}-{len(self.found.faults)}{path.suffix}"
        shutil.copy(path, kept)
        self.found.faults.append(f"{kind}: {answer} ({kept})")

    def _ask(self, kind: str, path: Path) -> str:
        child = self._child or self._start()
        assert child.stdin is not None
        child.stdin.write(f"{kind}\t{path}\n")
        child.stdin.flush()
        answer = self._line(child)
        if answer is None:
            child.kill()
            self._stop()
            return f"hang for {self._hang_s:g} s"
        if not answer:
            code = child.wait()
            self._stop()
            return f"signal {-code}" if code < 0 else f"exit {code}"
        return answer

    def _line(self, child: subprocess.Popen[str]) -> str | None:
        """What the child answers; None where it hangs, "" where it has died."""
        assert child.stdout is not None
        process = psutil.Process(child.pid)
        used, began = sum(process.cpu_times()[:2]), time.monotonic()
        with selectors.DefaultSelector() as waiting:
            waiting.register(child.stdout, selectors.EVENT_READ)
            while not waiting.select(1):
                # Its own time counts: on a busy machine it may have to wait for its turn.
                computed = sum(process.cpu_times()[:2]) - used
                if computed > self._hang_s or time.monotonic() - began > 10 * self._hang_s:
                    return None
        return child.stdout.readline().strip()

    def _start(self) -> subprocess.Popen[str]:
        here = str(Path(__file__).parents[1])
        paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
        child = subprocess.Popen(
            [sys.executable, "-m", self._reader],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )  # fmt: skip
        assert child.stdout is not None
        if child.stdout.readline().strip() != "ready":
            raise RuntimeError("the reader process does not start")
        self._child = child
        return child

    def _stop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.close()
            child.wait()
            child.stdout.close()


def main() -> None:
    """The command ``scripts/fuzz``."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("kinds", nargs="*", help="What to damage; everything when left out.")
    parser.add_argument("-n", type=int, default=1000, help="Inputs of each kind [default: 1000].")
    parser.add_argument("--seed", type=int, default=1, help="Another one, other inputs.")
    parser.add_argument("--slides", type=Path, help="Folder of further slides to damage.")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-faults"), help="For what fails.")
    asked = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="napari-xt-seeds-") as name:
        seeds = Path(name) / "seeds"
        write_seeds(seeds)
        for path in asked.slides.iterdir() if asked.slides else ():
            if path.is_file():
                shutil.copy(path, seeds / "slide")
        fuzzer = Fuzzer(seeds, asked.keep, asked.seed)
        fuzzer.run(asked.kinds, asked.n)
    found = fuzzer.found
    print(f"{found.by_kind.total()} inputs in {time.monotonic() - started:.0f} s:",
          ", ".join(f"{n} {kind}" for kind, n in found.by_kind.items()))  # fmt: skip
    print(", ".join(f"{n} {answer}" for answer, n in found.counts.most_common()))
    print("\n".join(found.faults))
    sys.exit(1 if found.faults else 0)


if __name__ == "__main__":
    main()
