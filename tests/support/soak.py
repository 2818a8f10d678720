"""Many runs in one process: memory, handles and threads stay flat.

`scripts/soak` runs it for as long as one likes, the test suite for seconds.
"""

from __future__ import annotations

import argparse
import gc
import math
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from support.models import write_tiny_model
from support.slides import tissue_image, write_tiff_slide
from xt_backend import Backend, RunSpec, score
from xt_backend.errors import XTError
from xt_backend.slides import open_slide

__all__ = ["Sample", "Trend", "soak", "trend"]

WARM_UP = 4
"""Rounds in which libraries still fetch what they keep."""

SETTLES_S = 2.0
"""How long a round may take to let go of all that it had."""


@dataclass(frozen=True)
class Sample:
    """What the process holds after a round."""

    memory_bytes: int
    handles: int
    threads: int


@dataclass(frozen=True)
class Trend:
    """From the first to the last third of the rounds after the warm-up, as medians.

    Attributes:
        memory: The last as a share of the first.
        handles: How many more there are.
        threads: How many more there are.
    """

    memory: float
    handles: float
    threads: float


def trend(samples: list[Sample]) -> Trend:
    """Where the samples of rounds after the warm-up go."""
    third = max(1, len(samples) // 3)

    def ends(value: Callable[[Sample], int]) -> tuple[float, float]:
        values = [value(sample) for sample in samples]
        return statistics.median(values[:third]), statistics.median(values[-third:])

    memory = ends(lambda sample: sample.memory_bytes)
    handles, threads = ends(lambda sample: sample.handles), ends(lambda sample: sample.threads)
    return Trend(memory[1] / memory[0], handles[1] - handles[0], threads[1] - threads[0])


def soak(rounds: int, folder: Path) -> Iterator[Sample]:
    """Rounds of all that a long batch meets: good, empty, broken and cancelled slides.

    Args:
        rounds: Those after the warm-up, which are told of.
        folder: For the slides, the model and the runs.
    """
    process = psutil.Process()
    good = write_tiff_slide(folder / "good.tiff", tissue_image(512, 512, ((0, 0, 512, 512),)))
    glass = write_tiff_slide(folder / "glass.tiff", tissue_image(256, 256, ()), levels=1)
    cut = folder / "cut.tiff"
    cut.write_bytes(good.read_bytes()[:5000])
    model = str(write_tiny_model(folder / "m.safetensors"))
    least = (math.inf, math.inf)
    for round_ in range(WARM_UP + rounds):
        out = folder / f"run-{round_}"
        score([good, glass, cut], model, out, tissue="auto", cache=out / "cache")
        with Backend() as backend:
            spec = RunSpec(slide=good, model=model, use_cache=False)
            for event in backend.submit(spec):
                backend.cancel(spec.run_id)
                del event
        with suppress(XTError), open_slide(cut) as slide:
            slide.thumbnail(64)
        shutil.rmtree(out)
        gc.collect()
        if round_ >= WARM_UP:
            sample = _settled(process, *least)
            least = min(least[0], sample.handles), min(least[1], sample.threads)
            yield sample


def _settled(process: psutil.Process, handles: float, threads: float) -> Sample:
    """What a process holds when threads that are about to end have had their time.

    Args:
        process: This one.
        handles: To which it should come back.
        threads: To which it should come back.
    """
    ends = time.monotonic() + SETTLES_S
    while True:
        open_now = process.num_handles() if sys.platform == "win32" else process.num_fds()
        sample = Sample(process.memory_info().rss, open_now, process.num_threads())
        if time.monotonic() > ends or (sample.handles <= handles and sample.threads <= threads):
            return sample
        time.sleep(0.05)


def main() -> None:
    """The command ``scripts/soak``."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=10**9, help="At most so many.")
    asked = parser.parse_args()
    ends = time.monotonic() + asked.hours * 3600
    samples: list[Sample] = []
    with tempfile.TemporaryDirectory(prefix="napari-xt-soak-") as name:
        for sample in soak(asked.rounds, Path(name)):
            samples.append(sample)
            if len(samples) % 20 == 1:
                used = f"{sample.memory_bytes / 2**20:.0f} MiB, {sample.handles} handles"
                print(f"round {len(samples)}: {used}, {sample.threads} threads", flush=True)
            if time.monotonic() > ends:
                break
    found = trend(samples)
    print(f"{len(samples)} rounds, {3 * len(samples)} slides: memory {found.memory - 1:+.1%}, "
          f"handles {found.handles:+g}, threads {found.threads:+g}")  # fmt: skip
    sys.exit(1 if found.memory > 1.02 or found.handles > 0 or found.threads > 0 else 0)


if __name__ == "__main__":
    main()
