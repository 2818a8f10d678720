"""SIGKILLs at random moments of a batch: after them its outputs are those of a run that was let be.

Usage: python scripts/kill_series.py [KILLS] [--slides N] [--seed S] [--keep FOLDER] [--json]

A batch of small slides and a broken one is scored once undisturbed. Then it is scored again and
killed at a random moment, over and over, in the same folder, until it comes to its end; then anew
in an empty folder, until there were KILLS kills (200). Checked after every kill: each file under a
final name has the bytes that it has in the undisturbed run; the tables can be made anew; what was
encoded and is lost is at most a block, besides what the encoder had in hand. Checked after every
batch that came to its end: all outputs are equal, but for times and for what tells how often it was
begun.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import signal
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import h5py
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.folders import folder_for
from support.models import write_tiny_model
from support.slides import write_tissue_slide

from xt_backend.batch import summarise
from xt_backend.cli import main as napari_xt
from xt_backend.engine.blocks import BLOCK_ROWS
from xt_backend.engine.encoder import BatchEncoder

STRIDE_PX = 16
"""So small that a slide has several blocks of regions."""
TIMES = ("seconds", "peak_memory_bytes", "started", "resumed", "ended", "call")
"""Of run.json and the ledger."""
CALLS = ("encoded_regions", "cache")
"""Of a slide's row: they are of the last call."""


@dataclass
class Found:
    """What the series found.

    Attributes:
        n_kills: Calls that were killed before their end.
        n_batches: Batches that came to their end.
        n_regions: Regions of one batch.
        most_lost: Regions that one kill lost, at most.
        may_lose: As many may be lost: a block, and what the encoder has in hand.
        seconds: Of an undisturbed batch, the quickest so far.
        wrong: What was not as it should be.
    """

    n_kills: int = 0
    n_batches: int = 0
    n_regions: int = 0
    most_lost: int = 0
    may_lose: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


class Series:
    """The batch, undisturbed and killed.

    Args:
        folder: For everything.
        n_slides: Good slides; a broken one comes on top.
        seed: Of the moments.
    """

    def __init__(self, folder: Path, n_slides: int, seed: int) -> None:
        self._folder = folder
        self._random = random.Random(seed)
        self._count = folder / "encoded"
        slides = folder / "slides"
        slides.mkdir()
        for number in range(n_slides):
            write_tissue_slide(slides / f"s{number}.tiff", side=1280 - 128 * (number % 5))
        (slides / "broken.svs").write_bytes(b"II*\0 and no more")
        self._model = write_tiny_model(folder / "tiny.safetensors")
        self._counted()
        self.found = Found()

    def run(self, n_kills: int) -> Found:
        """Kill so often; see the module."""
        started = time.perf_counter()
        code = self._wait(self._begin("whole", "whole-cache"))
        found = self.found
        found.seconds = time.perf_counter() - started
        self._wanted = outputs(self._folder / "whole")
        self._code = code
        found.n_regions = self._encoded()
        while found.n_kills < n_kills and not found.wrong:
            self._batch(n_kills)
        return found

    def _batch(self, n_kills: int) -> None:
        """One batch, killed until it comes to its end."""
        name = f"killed{self.found.n_batches}"
        out, cache = self._folder / name, self._folder / f"{name}-cache"
        is_first = True
        while True:
            self._count.unlink(missing_ok=True)
            before = _stored(cache)
            child = self._begin(name, cache.name)
            started = time.perf_counter()
            if self.found.n_kills < n_kills:
                self._kill(child, self._random.uniform(0, self.found.seconds))
            code = self._wait(child)
            if code is not None:
                if is_first:  # a busy machine may have been slow when the series began
                    took = time.perf_counter() - started
                    self.found.seconds = min(self.found.seconds, took)
                break
            is_first = False
            self.found.n_kills += 1
            lost = self._encoded() - (_stored(cache) - before)
            self.found.most_lost = max(self.found.most_lost, lost)
            if lost > self.found.may_lose:
                self.found.wrong.append(f"kill {self.found.n_kills} lost {lost} regions")
            self._look(out)
        self.found.n_batches += 1
        if code != self._code:
            self.found.wrong.append(f"{name} ended with {code}, and {self._code} undisturbed")
        self._compare(name, outputs(out))

    def _look(self, out: Path) -> None:
        """What a kill leaves: whole files only, and tables that can be made anew."""
        if not (out / "ledger" / "plan.json").is_file():
            return
        for path in out.iterdir():
            wanted = self._wanted.get(path.name)
            if isinstance(wanted, bytes) and path.read_bytes() != wanted:
                self.found.wrong.append(f"a kill left another {path.name}")
        run = summarise(out)
        for row in run.rows:
            if row.status != "failed" and not (out / f"{row.id}.run.h5").is_file():
                self.found.wrong.append(f"{row.id} is called {row.status} without a result")

    def _compare(self, name: str, got: dict[str, Any]) -> None:
        for file in sorted(self._wanted.keys() | got.keys()):
            if self._wanted.get(file) != got.get(file):
                self.found.wrong.append(f"{name}: {file} differs")

    def _begin(self, out: str, cache: str) -> int:
        """Score the batch in a process that has all modules already."""
        child = os.fork()
        if child:
            return child
        log = os.open(self._folder / "log", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = 1
        try:
            named = {"--model": self._model, "--out": self._folder / out}
            named |= {"--cache": self._folder / cache, "--stride": STRIDE_PX}
            words = [str(word) for option in named.items() for word in option]
            # Torch is not tried first, which would be encoding too.
            napari_xt(["score", str(self._folder / "slides"), "--encoder-backend", "torch", *words])
        except SystemExit as ended:
            code = int(ended.code or 0)
        finally:
            os._exit(code)

    @staticmethod
    def _kill(child: int, seconds: float) -> None:
        """Kill it after a while, unless it comes to its end before."""
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return
            time.sleep(min(left, 0.02))
        os.kill(child, signal.SIGKILL)

    @staticmethod
    def _wait(child: int) -> int | None:
        """Its exit code; None where it was killed."""
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return None if code == -signal.SIGKILL else code

    def _counted(self) -> None:
        """Have the encoder note how many regions it is given."""
        begin = BatchEncoder._begin

        def counting(encoder: BatchEncoder, pixels: Any) -> Any:
            self.found.may_lose = BLOCK_ROWS
            with self._count.open("a") as file:
                file.write(f"{len(pixels)} {encoder.in_flight}\n")
            return begin(encoder, pixels)

        BatchEncoder._begin = counting  # type: ignore[method-assign]

    def _encoded(self) -> int:
        """Regions that the last call gave to the encoder."""
        if not self._count.is_file():
            return 0
        noted = [line.split() for line in self._count.read_text().splitlines()]
        most = max(max(int(n), int(in_flight)) for n, in_flight in noted)
        self.found.may_lose = max(self.found.may_lose, BLOCK_ROWS + 2 * most)
        return sum(int(n) for n, _ in noted)


def outputs(out: Path) -> dict[str, Any]:
    """All files of a run without the times, by name; local.json is for this machine only."""
    found: dict[str, Any] = {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if name == "slides.csv":
            with path.open(newline="") as file:
                found[name] = [_timeless(row) for row in csv.DictReader(file)]
        elif path.suffix == ".json" and name != "local.json":
            found[name] = _timeless(json.loads(path.read_text()))
        elif path.is_file() and name != "local.json":
            found[name] = path.read_bytes()
    return found


def _timeless(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    skipped = (*TIMES, *CALLS)
    return {
        name: _timeless(item)
        for name, item in value.items()
        if name not in skipped and not name.startswith("seconds_")
    }


def _stored(cache: Path) -> int:
    """Regions whose features are in complete files, each counted once."""
    cells: set[tuple[str, int, int]] = set()
    for path in cache.rglob("*.h5"):
        with h5py.File(path) as file:
            if "features" in file:
                cells |= {(path.parent.name, col, row) for col, row in file["cell"][:].tolist()}
    return len(cells)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("kills", type=int, nargs="?", default=200)
    parser.add_argument("--slides", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for everything, which stays there")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)  # a fork would wait for ever for OpenMP's other threads
    with folder_for(given.keep) as folder:
        found = Series(folder, given.slides, given.seed).run(given.kills)
    if given.json:
        print(json.dumps(asdict(found)))
    else:
        print(
            f"{found.n_kills} kills over {found.n_batches} batches of {found.n_regions} regions "
            f"({found.seconds:.1f} s undisturbed): at most {found.most_lost} regions lost by one "
            f"kill, {found.may_lose} may be"
        )
        for line in found.wrong:
            print(f"WRONG: {line}")
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
