"""Times and memory of context encoders, in a process of its own: ``python -m`` with JSON on stdin.

Reads ``{"cases": [[kind, tokens], ...], "rounds": n, "dim", "layers", "options"}`` and prints one
line of JSON a case and round: ``[kind, tokens, seconds, peak_bytes]``. With one case and one round
the peak is that of this case alone.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import torch

from xt_backend.model import build_context
from xt_backend.model.context import ContextEncoder

REGION_UM = 128.0
SEED = 0


def main() -> None:
    """Measure what stdin asks for."""
    wanted: dict[str, Any] = json.load(sys.stdin)
    torch.manual_seed(SEED)
    dim = wanted["dim"]
    built: dict[str, ContextEncoder] = {}
    for kind in {kind for kind, _ in wanted["cases"]}:
        options = wanted["options"].get(kind, {})
        built[kind] = build_context(kind, dim, wanted["layers"], **options).eval()
        _run(built[kind], dim, 64)  # what is only done once
    for _ in range(wanted["rounds"]):
        for kind, tokens in wanted["cases"]:
            row = [kind, tokens, *_run(built[kind], dim, tokens)]
            sys.stdout.write(json.dumps(row) + "\n")
            sys.stdout.flush()


@torch.inference_mode()
def _run(context: ContextEncoder, dim: int, n: int) -> tuple[float, int | None]:
    """Seconds of one forward pass, and by how much memory rose above what the input takes."""
    tokens = torch.randn(1, n, dim)
    side = math.isqrt(n - 1) + 1
    places = torch.arange(n)
    positions_um = torch.stack([places % side, places // side], dim=-1)[None] * REGION_UM
    _forget_peak()
    before = _memory("VmRSS")
    start = time.perf_counter()
    context(tokens, positions_um)
    seconds = time.perf_counter() - start
    peak = _memory("VmHWM")
    return seconds, None if before is None or peak is None else max(0, peak - before)


def _forget_peak() -> None:
    # 5: let the peak of resident memory begin anew (Linux, man proc).
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _memory(name: str) -> int | None:
    """Bytes of a line of /proc/self/status; None where there is no such file."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(found[0]) * 1024 if found else None


if __name__ == "__main__":
    main()
