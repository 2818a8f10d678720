"""Features that lie on a disk, taken some rows at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xt_backend.errors import NoSpaceError, StoreError
from xt_backend.keys import RegionStatus
from xt_backend.store import (
    Blocks,
    RegionStore,
    ScratchRows,
    SomeRows,
    StoredRows,
    StoreKey,
    blocks,
    in_blocks,
    open_checked,
    parts,
    write_h5,
)

FEATURES = np.random.default_rng(1).normal(size=(40, 2, 6)).astype(np.float16)
CELLS = np.stack(np.divmod(np.arange(40), 8)[::-1], axis=1).astype(np.int32)
SOME = np.array([0, 1, 2, 7, 9, 10, 39])


def test_scratch_holds_what_was_put_and_zeros_elsewhere(tmp_path: Path) -> None:
    with ScratchRows.made_in(tmp_path, FEATURES.shape) as rows:
        rows[np.array([5, 4, 9, 10, 11])] = FEATURES[[5, 4, 9, 10, 11]]
        found = rows[np.arange(40)]
        np.testing.assert_array_equal(rows[np.array([4, 10, 12])], found[[4, 10, 12]])
    put = np.isin(np.arange(40), [4, 5, 9, 10, 11])
    np.testing.assert_array_equal(found[put], FEATURES[put])
    assert not found[~put].any()
    assert not list(tmp_path.iterdir())
    with ScratchRows.made_in(tmp_path, (0, 1, 6)) as none:
        assert none[np.arange(0)].shape == (0, 1, 6)


def test_scratch_without_room_is_told_before_anything_is_put(
    tmp_path: Path,
) -> None:
    with pytest.raises(NoSpaceError), ScratchRows.made_in(tmp_path, (1 << 40, 1, 2048)):
        pass


def test_stored_rows_are_those_of_the_store(tmp_path: Path) -> None:
    store = RegionStore.open(tmp_path, StoreKey("slide", {}, {"encoder": "x"}))
    wanted = np.arange(40) != 7
    store.append(CELLS[wanted], FEATURES[wanted], np.zeros(39, np.uint8))
    rows = StoredRows(store, CELLS, wanted, (2, 6))
    assert (rows.shape, rows.n_missing) == ((40, 2, 6), 0)
    found = rows[SOME]
    assert not found[3].any()
    np.testing.assert_array_equal(np.delete(found, 3, 0), FEATURES[np.delete(SOME, 3)])
    more = StoredRows(store, CELLS, np.ones(40, bool), (2, 6))
    assert more.n_missing == 1
    with pytest.raises(StoreError, match="pruned"):
        more[SOME]


def test_rows_without_features_read_as_zeros() -> None:
    wanted = np.isin(np.arange(40), [0, 3, 7, 10])
    rows = SomeRows(FEATURES[wanted], wanted)
    assert (rows.shape, rows.dtype) == (FEATURES.shape, FEATURES.dtype)
    np.testing.assert_array_equal(rows[SOME], FEATURES[SOME] * wanted[SOME, None, None])
    none = SomeRows(FEATURES[:0], np.zeros(40, bool))
    assert not none[SOME].any()


def test_a_file_written_in_blocks_is_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "_STEP_ROWS", 3)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1)
    made = in_blocks(FEATURES)
    assert [len(block) for block in made] == [3] * 13 + [1]
    np.testing.assert_array_equal(made.array(), FEATURES)
    status = np.full(40, RegionStatus.EDGE, np.uint8)
    datasets = {"features": made, "status": status, "none": np.empty((0, 4))}
    for name in ("a", "b"):
        with open(tmp_path / name, "wb+") as file:
            write_h5(file, datasets, {"text": "ü" * 9, "number": 0.5})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with open_checked(tmp_path / "a", 1 << 20) as reader:
        data = {k: reader.read(k, reader.dtypes[k], reader.shapes[k]) for k in reader.shapes}
        reader.check_digest(data)
        reader.check_digest({**data, "features": in_blocks(data["features"])})
        assert (reader.attrs["text"], reader.attrs["number"]) == ("ü" * 9, 0.5)
    np.testing.assert_array_equal(data["features"], FEATURES)
    np.testing.assert_array_equal(data["status"], status)


def test_parts_end_where_chunks_do() -> None:
    found = list(parts(np.arange(10_000), 5120))
    assert {len(part) % 256 for part in found[:-1]} == {0}
    assert 8 << 20 < len(found[0]) * 5120 <= 16 << 20
    np.testing.assert_array_equal(np.concatenate(found), np.arange(10_000))
    assert len(next(iter(parts(np.arange(999), 1 << 30)))) == 256


def test_blocks_know_their_size() -> None:
    made = Blocks((3, 5), np.dtype(np.float32), lambda: iter([np.ones((3, 5), np.float32)]))
    assert (len(made), made.nbytes) == (3, 60)
