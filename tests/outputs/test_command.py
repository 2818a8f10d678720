"""Areas as the files that a command can name."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from xt_backend.outputs import command, roi_file


def square(side: float) -> dict[str, Any]:
    ring = [[100.0, 200], [100 + side, 200], [100 + side, 200 + side], [100, 200 + side]]
    return {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}


def test_an_area_counts_from_the_bounds_and_is_named_by_its_content(tmp_path: Path) -> None:
    path = roi_file(square(10), (100, 200, 1000, 1000), tmp_path / "areas")
    assert json.loads(path.read_text())["coordinates"][0][0] == [0, 0]
    assert roi_file(square(10), (100, 200, 1000, 1000), tmp_path / "areas") == path
    assert roi_file(square(11), (100, 200, 1000, 1000), tmp_path / "areas") != path


def test_the_last_areas_are_kept_and_nothing_else_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "AREAS_KEPT", 3)
    other = tmp_path / "area-of-mine.geojson"
    other.write_text("{}")
    made = []
    for side in range(1, 5):
        made.append(roi_file(square(side), (0, 0), tmp_path))
        os.utime(made[-1], (side, side))
    assert [path.exists() for path in made] == [False, True, True, True]
    roi_file(square(2), (0, 0), tmp_path)  # used again: now the youngest
    roi_file(square(9), (0, 0), tmp_path)
    assert [path.exists() for path in made] == [False, True, False, True]
    assert other.exists()
