"""Feature files are written block by block: no file is ever held, and a full disk is survived."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from support.feature_tables import make_feature_table

from xt_backend.keys import RegionStatus, RunFile
from xt_backend.outputs import LAYOUTS, FeatureTable, get_layout, write_features
from xt_backend.slides.lattice import Lattice
from xt_backend.store import blocks

N, DIM = 5120, 2048
EXTRAS = {"h5ad": "anndata", "parquet": "pyarrow"}


class MadeUp:
    """Features that are nowhere: each number is its row's."""

    shape = (N, 1, DIM)
    dtype = np.dtype(np.float16)

    def __getitem__(self, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.broadcast_to(rows.astype(np.float16)[:, None, None], (len(rows), 1, DIM))


def large_table(**changes: Any) -> FeatureTable:
    lattice = Lattice.for_bounds((0, 0, 64 * 512, 80 * 512), (0.25, 0.25), 0.5, 256)
    values: dict[str, Any] = {
        **vars(make_feature_table()),
        "lattice": lattice,
        "cells": lattice.all_cells(),
        "status": np.full(N, RegionStatus.OK, np.uint8),
        "features": MadeUp(),
        "tissue": None,
    }
    return FeatureTable(**{**values, **changes})


@pytest.fixture(params=sorted(LAYOUTS))
def name(request: pytest.FixtureRequest) -> str:
    if request.param in EXTRAS:
        pytest.importorskip(EXTRAS[request.param], exc_type=ImportError)
    return str(request.param)


def test_memory_does_not_hold_the_features(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1 << 20)
    layout = get_layout(name)
    write_features(layout, tmp_path / "small", make_feature_table())  # imports cost once
    tracemalloc.start()
    try:
        paths = write_features(layout, tmp_path, large_table())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    size = max(path.stat().st_size for path in paths)
    assert size > N * DIM * 2 or name == "parquet"  # it packs what is the same
    # One block is 2 MB (256 rows of float32), and a few of them are in hand.
    assert peak < N * DIM * 4 / 3


def test_every_row_is_where_it_belongs(tmp_path: Path) -> None:
    wanted = np.arange(N, dtype=np.float16).astype(np.float32)
    write_features(get_layout("clam"), tmp_path, large_table())
    bag = torch.load(tmp_path / "pt_files" / "block-7.pt", weights_only=True, mmap=True)
    np.testing.assert_array_equal(bag[:, 0].numpy(), wanted)
    np.testing.assert_array_equal(bag[:, -1].numpy(), wanted)
    with h5py.File(tmp_path / "h5_files" / "block-7.h5") as file:
        np.testing.assert_array_equal(file["features"][:, DIM // 2], wanted)
    status = np.full(N, RegionStatus.OK, np.uint8)
    status[100:3000:7] = RegionStatus.READ_ERROR
    write_features(get_layout("h5"), tmp_path, large_table(status=status))
    with h5py.File(tmp_path / "block-7.h5") as file:
        np.testing.assert_array_equal(file["features"][:, 5], wanted[status == RegionStatus.OK])


FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from outputs.test_feature_streaming import large_table
from xt_backend.errors import NoSpaceError
from xt_backend.outputs import get_layout, write_features
# The imports of some layouts write files of their own.
tables = {{name: large_table() for name in {names!r}}}
for name, table in tables.items():
    write_features(get_layout(name), Path({out!r}, "whole", name), large_table(
        cells=table.cells[:0], status=table.status[:0]))
for limit in (7 << 20, 8000, 300):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, 8 << 20))
    for name, table in tables.items():
        try:
            write_features(get_layout(name), Path({out!r}, name), table)
        except NoSpaceError:
            print(name)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs RLIMIT_FSIZE")
def test_a_full_disk_is_an_error_and_not_the_end_of_the_process(
    checkout: Path, tmp_path: Path
) -> None:
    names = [n for n in LAYOUTS if n not in EXTRAS or find_spec(EXTRAS[n]) is not None]
    code = FULL.format(tests=str(checkout / "tests"), names=names, out=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = done.stdout.split()
    # Parquet packs what is the same, which then fits.
    for name in names:
        assert told.count(name) == 3 - (name == "parquet")
    for name in names:
        files = [path for path in (tmp_path / name).rglob("*") if path.is_file()]
        assert not [path for path in files if path.suffix == RunFile.PARTIAL]
        last = get_layout(name).files(large_table().kind, "block-7")[-1]
        assert (tmp_path / name / last).exists() == (name == "parquet")
