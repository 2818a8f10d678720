"""scripts/bench_exports.py: every format that it measures is written."""

from __future__ import annotations

import importlib.util
import json
from importlib.util import find_spec
from pathlib import Path

import pytest


def test_every_kind_is_measured(
    checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("resource")
    pytest.importorskip("pyarrow")
    script = checkout / "scripts" / "bench_exports.py"
    spec = importlib.util.spec_from_file_location("bench_exports", script)
    assert spec is not None
    assert spec.loader is not None
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    path = tmp_path / "large.run.h5"
    score_map = bench.large_map(300)
    score_map.save(path)
    bench.fill_store(tmp_path / "cache", score_map, 8)
    kinds = [*bench.KINDS, *bench.FEATURES]
    if find_spec("anndata") is None:
        kinds.remove("features h5ad")
    for kind in kinds:
        bench.measure(kind, path)
        found = json.loads(capsys.readouterr().out)
        assert found["seconds"] > 0
        assert found["peak"] > 1e6
        assert found["bytes"] > (300 * 8 * 2 if kind in bench.FEATURES else 100)
