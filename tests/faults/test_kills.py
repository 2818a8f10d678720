"""A batch that is killed again and again ends with what it would have had undisturbed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(os.name == "nt", reason="needs fork and SIGKILL")
def test_a_handful_of_kills_changes_no_output(checkout: Path, tmp_path: Path) -> None:
    """scripts/kill_series.py does 200 of them, with more slides."""
    done = subprocess.run(
        [sys.executable, str(checkout / "scripts" / "kill_series.py"), "4", "--slides", "1",
         "--keep", str(tmp_path / "series"), "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    log = (tmp_path / "series" / "log").read_text(encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr + log
    found = json.loads(done.stdout)
    assert found["wrong"] == []
    assert found["n_kills"] == 4
    assert found["n_batches"] >= 1
    assert found["n_regions"] > 256  # more than a block
    assert 0 < found["may_lose"] < found["n_regions"]
    assert found["most_lost"] <= found["may_lose"]
