"""Learning from one large slide, or predicting it: ``python -m`` with JSON lines on stdin.

The first line says what with; then a line is a job, answered by one line of JSON. A process does
one job, so that its peak of memory is that of the job.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from xt_backend.batch import score
from xt_backend.engine import peak_memory_bytes
from xt_backend.training import TrainSpec, train


def main() -> None:
    """Answer jobs until stdin ends."""
    wanted: dict[str, Any] = json.loads(sys.stdin.readline())
    _say({"ready": True})
    for line in sys.stdin:
        job = {"train": _train, "predict": _predict}[line.strip()]
        started = time.perf_counter()
        regions = job(wanted)
        seconds = time.perf_counter() - started
        _say({"regions": regions, "seconds": seconds, "peak_bytes": peak_memory_bytes()})


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _train(wanted: dict[str, Any]) -> int:
    spec = TrainSpec(
        slides=Path(wanted["slide"]).parent,
        val=Path(wanted["val"]),
        out=Path(wanted["model"]),
        region_encoder=wanted["encoder"],
        weights="random",
        model_mpp=wanted["mpp"],
        region_px=wanted["region_px"],
        context=wanted["context"],
        end_to_end=True,
        grad_ratio=wanted["grad_ratio"],
        epochs=1,
        tissue="all",
        device="cpu",
        use_cache=False,
        resume=False,
    )
    return sum(train(spec).counts[0].train.values())


def _predict(wanted: dict[str, Any]) -> int:
    with tempfile.TemporaryDirectory(prefix="bench-large-") as folder:
        run = score(
            wanted["slide"], wanted["model"], folder, tissue="all", device="cpu", use_cache=False
        )
        (row,) = run.rows
        if row.n_regions is None:
            raise RuntimeError(row.reason)
        return row.n_regions


if __name__ == "__main__":
    main()
