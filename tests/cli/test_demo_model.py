"""The bundled model: context must be worth a lot on slides it has never seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Call = Callable[..., Any]


def test_context_tells_reactive_stroma_and_a_region_alone_cannot(
    call: Call, checkout: Path
) -> None:
    done = call(
        "evaluate", "--model", "context-demo", "--slides", checkout / "sample_slides",
        "--compare-context", "--bootstrap", "0", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)

    def stroma(head: str) -> float:
        f1 = report[head]["f1"]
        return (f1["normal"]["value"] + f1["reactive"]["value"]) / 2

    assert stroma("context") > 0.7
    assert stroma("context") - stroma("region_only") > 0.2
