#!/usr/bin/env python3
"""What more workers gain, and what Ray costs: the same slides with each engine, in turn.

    scripts/bench_engines.py [--slides N] [--side PX] [--rounds R]

Each round scores the same sample slides with each engine, one thread a worker, nothing stored. `at
work` is the rate from the first quarter of the slides on, when every worker has loaded its model;
beside it stand the cores that all processes kept busy meanwhile (a worker of one thread reads,
measures and writes beside its encoder), and the time of the whole batch, with starting Ray and
loading torch. `encoder` is what the machine itself gives: as many plain processes, each with
nothing but the model's encoder in one thread on pixels that are there already, all at the same
time. `regions/CPU s` hardly depends on what else the machine does. One worker is measured twice:
free, when its reading and writing find the other core idle, and held to one core with all it
starts, as a worker is whose neighbours are busy. Of the rounds the fastest counts. Wanted: Ray
with 2 workers at least 1.6 times as fast as with 1, and no more than 10 % slower than as many
processes of the local engine. Nothing is kept.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import torch

from xt_backend.batch import Batch, Outcome, Task
from xt_backend.batch.engines import EngineOptions, open_engine
from xt_backend.config import ScoreOptions
from xt_backend.engine import BatchEncoder, choose_device
from xt_backend.model import find_model, load_model
from xt_backend.samples import write_samples

ENCODER = "encoder"
HELD, FREE = "1, held", "1"
WORKERS = {HELD: 1, FREE: 1, "2": 2}
CASES = tuple((engine, how) for engine in (ENCODER, "local", "ray") for how in WORKERS)
MODEL = "context-demo"
ENCODER_S = 10.0
AT_ONCE = 64
"""Regions that a plain process encodes between two looks at the time."""


class Found(NamedTuple):
    """How a case went.

    Attributes:
        rate: Regions a second with all workers at work.
        cores: That were busy meanwhile.
        in_all: Seconds of the whole batch; None where there is none.
    """

    rate: float
    cores: float
    in_all: float | None


def encode() -> None:
    """A plain process: encode from the word go on, and say how many regions a second."""
    torch.set_num_threads(1)
    model = load_model(find_model(MODEL))
    card = model.card
    encoder = BatchEncoder(model.region_encoder, choose_device("cpu", "fp32"))
    shape = (AT_ONCE, card.region_px, card.region_px, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    encoder.encode(pixels)
    print("ready", flush=True)
    sys.stdin.readline()
    begun, worked, n = time.perf_counter(), time.process_time(), 0
    while (seconds := time.perf_counter() - begun) < ENCODER_S:
        encoder.encode(pixels)
        n += AT_ONCE
    print(n / seconds, (time.process_time() - worked) / seconds, flush=True)


def measure_encoder(processes: int) -> Found:
    """What the machine gives to plain processes."""
    command = [sys.executable, __file__, "--encode"]
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    for child in children:
        assert child.stdout is not None
        child.stdout.readline()
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    told = [child.communicate()[0] for child in children]
    rates, cores = zip(*(map(float, text.split()) for text in told), strict=True)
    return Found(sum(rates), sum(cores), None)


def cpu_s() -> float:
    """Seconds that the processor worked for this process and those below it."""
    here = psutil.Process()
    seconds = 0.0
    for process in [here, *here.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            seconds += times.user + times.system
    return seconds


def measure(slides: Path, engine: str, processes: int, out: Path) -> Found:
    """A batch."""
    options = ScoreOptions(use_cache=False, encoder_backend="torch")
    ends: list[tuple[float, float, int]] = []

    def take(task: Task, outcome: Outcome) -> None:
        ends.append((time.perf_counter(), cpu_s(), outcome.row.encoded_regions or 0))

    begun = time.perf_counter()
    with open_engine(EngineOptions(engine=engine, processes=processes), options) as opened:
        batch = Batch([slides], MODEL, out, options, device=opened.device)
        run = batch.run(on_outcome=take, execute=opened.executor(batch.device))
        in_all = time.perf_counter() - begun
    if run.exit_code:
        raise SystemExit(f"{engine}, {processes}: {run.counts}")
    first = len(ends) // 4
    n_regions = sum(n for _, _, n in ends[first + 1 :])
    seconds, worked = (ends[-1][i] - ends[first][i] for i in (0, 1))
    return Found(n_regions / seconds, worked / seconds, in_all)


@contextlib.contextmanager
def held(really: bool) -> Iterator[None]:
    """Hold this thread, and every thread and process that it starts, to one core."""
    if not really:
        yield
        return
    this = psutil.Process()
    before = this.cpu_affinity()
    this.cpu_affinity(before[:1])
    try:
        yield
    finally:
        this.cpu_affinity(before)


def faster(one: Found | None, other: Found) -> Found:
    """The better of two rounds."""
    if one is None:
        return other
    best = one if one.rate >= other.rate else other
    if one.in_all is None or other.in_all is None:
        return best
    return best._replace(in_all=min(one.in_all, other.in_all))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slides", type=int, default=24)
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--encode", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    if chosen.encode:
        encode()
        return
    torch.set_num_threads(1)  # the local engine with one worker is this process
    best: dict[tuple[str, str], Found] = {}
    with tempfile.TemporaryDirectory(prefix="xt-engines-") as name:
        slides = Path(name, "slides")
        write_samples(slides, n=chosen.slides, size_px=chosen.side, seed=5)
        for turn in range(chosen.rounds):
            for case in CASES:
                engine, how = case
                with held(how == HELD):
                    if engine == ENCODER:
                        found = measure_encoder(WORKERS[how])
                    else:
                        out = Path(name, f"{turn}-{engine}-{how}")
                        found = measure(slides, engine, WORKERS[how], out)
                best[case] = faster(best.get(case), found)
                print(f"round {turn + 1}: {engine}, {how}: {found.rate:.1f}/s", file=sys.stderr)
    print(f"{chosen.slides} slides of {chosen.side} px, 1 thread a worker")
    print(
        f"{'engine':8}{'workers':>8}{'at work, regions/s':>20}{'cores':>7}{'regions/CPU s':>15}"
        f"{'in all, s':>11}"
    )
    for (engine, how), found in best.items():
        in_all = "" if found.in_all is None else f"{found.in_all:.1f}"
        print(
            f"{engine:8}{how:>8}{found.rate:20.1f}{found.cores:7.2f}"
            f"{found.rate / found.cores:15.1f}{in_all:>11}"
        )
    for engine in dict(CASES):
        free, held_ = (best[engine, "2"].rate / best[engine, how].rate for how in (FREE, HELD))
        wanted = " (wanted: 1.6)" if engine == "ray" else ""
        print(
            f"{engine}, 2 workers against 1: {free:.2f} x, held to one core {held_:.2f} x{wanted}"
        )
    for how in WORKERS:
        more = best["local", how].rate / best["ray", how].rate - 1
        print(f"Ray over the local engine, workers {how}: {more:+.1%} (wanted: at most 10 %)")


if __name__ == "__main__":
    main()
