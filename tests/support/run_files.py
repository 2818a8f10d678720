"""What a run directory says, without what differs between two runs of the same thing."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

__all__ = ["check_same", "check_whole", "result_of"]

_HOW = ("seconds_read", "seconds_encode", "seconds_context", "seconds_total",
        "encoded_regions", "cache")  # fmt: skip
_WHEN = ("started", "resumed", "ended", "seconds", "peak_memory_bytes", "readers",
         "other_encoders")  # fmt: skip


def result_of(folder: Path) -> dict[str, Any]:
    """The files of a run as bytes, its tables without times and without who computed what."""
    files: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        # The ledger says when and by whom each slide was done.
        if path.is_dir() or name == "local.json" or name.startswith("ledger"):
            continue
        files[name] = path.read_bytes()
    files["slides.csv"] = [
        {column: value for column, value in row.items() if column not in _HOW}
        for row in csv.DictReader(files["slides.csv"].decode().splitlines())
    ]
    said = json.loads(files["run.json"])
    said["encoder"] = said["encoder"]["way"]  # and not how it was found
    files["run.json"] = {key: v for key, v in said.items() if key not in _WHEN}
    return files


def check_same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Two runs gave the same; says in what they differ."""
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if isinstance(value, dict):
            check_same(found[name], value)
        else:
            assert found[name] == value, f"{name} differs"


def check_whole(folder: Path) -> None:
    """Reads every file of a run that has its final name.

    Raises:
        StoreError: One of them is not whole.
    """
    from xt_backend.outputs import read_json, read_slides_csv
    from xt_backend.store import ScoreMap

    for path in folder.glob("*.run.h5"):
        assert not ScoreMap.load(path).partial
    for path in folder.glob("slides.csv"):
        read_slides_csv(path)
    for path in folder.glob("*.json"):
        read_json(path)
    for path in folder.glob("*.geojson"):
        json.loads(path.read_text())
