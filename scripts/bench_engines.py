#!/usr/bin/env python3
"""What more workers gain, and what Ray costs: the same slides with each engine, in turn.

    scripts/bench_engines.py [--slides N] [--side PX] [--rounds R]

Each round scores the same sample slides with each engine, one thread a worker, nothing stored. `at
work` is the rate from the first quarter of the slides on, when every worker has loaded its model;
beside it stands the time of the whole batch, with starting Ray and loading torch. Of the rounds the
fastest counts. Wanted: Ray with 2 workers at least 1.6 times as fast as with 1, and no more than
10 % slower than as many processes of the local engine. Nothing is kept.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import torch

from xt_backend.batch import Batch, Outcome, Task
from xt_backend.batch.engines import EngineOptions, open_engine
from xt_backend.config import ScoreOptions
from xt_backend.samples import write_samples

CASES = (("local", 1), ("local", 2), ("ray", 1), ("ray", 2))
MODEL = "context-demo"


def measure(slides: Path, engine: str, processes: int, out: Path) -> tuple[float, float]:
    """Regions a second with all workers at work, and seconds of the whole batch."""
    options = ScoreOptions(use_cache=False, encoder_backend="torch")
    ends: list[tuple[float, int]] = []

    def take(task: Task, outcome: Outcome) -> None:
        ends.append((time.perf_counter(), outcome.row.encoded_regions or 0))

    begun = time.perf_counter()
    with open_engine(EngineOptions(engine=engine, processes=processes), options) as opened:
        batch = Batch([slides], MODEL, out, options, device=opened.device)
        run = batch.run(on_outcome=take, execute=opened.executor(batch.device))
        in_all = time.perf_counter() - begun
    if run.exit_code:
        raise SystemExit(f"{engine}, {processes}: {run.counts}")
    first = len(ends) // 4
    n_regions = sum(n for _, n in ends[first + 1 :])
    return n_regions / (ends[-1][0] - ends[first][0]), in_all


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slides", type=int, default=24)
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)  # the local engine with one worker is this process
    best: dict[tuple[str, int], tuple[float, float]] = {}
    with tempfile.TemporaryDirectory(prefix="xt-engines-") as name:
        slides = Path(name, "slides")
        write_samples(slides, n=chosen.slides, size_px=chosen.side, seed=5)
        for turn in range(chosen.rounds):
            for case in CASES:
                rate, in_all = measure(slides, *case, Path(name, f"{turn}-{case[0]}-{case[1]}"))
                before = best.get(case, (rate, in_all))
                best[case] = (max(before[0], rate), min(before[1], in_all))
    print(f"{chosen.slides} slides of {chosen.side} px, 1 thread a worker")
    print(f"{'engine':8}{'workers':>8}{'at work, regions/s':>20}{'in all, s':>11}")
    for (engine, processes), (rate, in_all) in best.items():
        print(f"{engine:8}{processes:8}{rate:20.1f}{in_all:11.1f}")
    print(f"Ray, 2 workers against 1: {best['ray', 2][0] / best['ray', 1][0]:.2f} x (wanted: 1.6)")
    for n in (1, 2):
        more = best["local", n][0] / best["ray", n][0] - 1
        print(f"Ray over the local engine, {n} workers: {more:+.1%} (wanted: at most 10 %)")


if __name__ == "__main__":
    main()
