from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from xt_backend.errors import StoreError
from xt_backend.store import (
    RegionStore,
    StoreKey,
    disk_use,
    keys_of_slide,
    list_stores,
    remove_store,
)


def fill(cache: Path, slide: str, n: int = 5) -> RegionStore:
    store = RegionStore.open(cache, StoreKey(slide, {}, {}))
    cells = np.stack([np.arange(n), np.arange(n)], axis=1).astype(np.int32)
    store.append(cells, np.ones((n, 1, 8), np.float16), np.zeros(n, np.uint8))
    return store


def test_stores_are_described_the_longest_unused_first(tmp_path: Path) -> None:
    stores = {name: fill(tmp_path, name, n) for name, n in (("a", 3), ("b", 4), ("c", 5))}
    for age, name in enumerate("abc"):
        for path in stores[name].folder.iterdir():
            os.utime(path, (1000 - age, 1000 - age))
    (tmp_path / "foreign").mkdir()
    (tmp_path / "aa").mkdir()
    (tmp_path / "aa" / "foreign").write_text("x")
    found = list_stores(tmp_path)
    assert [info.key.slide for info in found if info.key] == ["c", "b", "a"]
    assert [info.n_regions for info in found] == [5, 4, 3]
    assert [info.n_shards for info in found] == [1, 1, 1]
    assert all(info.problem == "" and info.version for info in found)
    for info in found:
        assert info.size_bytes == sum(p.stat().st_size for p in info.folder.iterdir())
    assert sum(info.size_bytes for info in found) + 1 == disk_use(tmp_path)

    RegionStore.open(tmp_path, stores["c"].key)
    assert list_stores(tmp_path)[-1].key == stores["c"].key


def test_the_stores_of_a_slide_are_found_while_they_are_there(tmp_path: Path) -> None:
    assert keys_of_slide(tmp_path / "no cache", "a") == []
    mine = StoreKey("a", {"origin_px": [1, 2]}, {"weights_sha256": "w"})
    fill(tmp_path, "b")
    broken = fill(tmp_path, "a").folder
    (broken / "index.json").write_text("{")
    store = RegionStore.open(tmp_path, mine)
    store.append(np.zeros((1, 2), np.int32), np.ones((1, 1, 8), np.float16), np.zeros(1, np.uint8))
    for _ in range(2):
        assert [key.digest() for key in keys_of_slide(tmp_path, "a")] == [mine.digest()]
    remove_store(store.folder)
    assert keys_of_slide(tmp_path, "a") == []


def test_stores_that_cannot_be_described_are_still_listed(tmp_path: Path) -> None:
    folder = fill(tmp_path, "a").folder
    (folder / "index.json").write_text("{")
    next(folder.glob("*.h5")).rename(folder / "x.h5.bad")
    (info,) = list_stores(tmp_path)
    assert info.key is None
    assert "cannot be read" in info.problem
    assert (info.n_shards, info.n_bad) == (0, 1)
    assert info.size_bytes > 0
    (folder / "index.json").unlink()
    assert list_stores(tmp_path)[0].problem == "it has no index"


def test_no_cache_is_an_empty_one(tmp_path: Path) -> None:
    assert list_stores(tmp_path / "none") == []
    assert disk_use(tmp_path / "none") == 0


def test_removing_frees_the_whole_store_only(tmp_path: Path) -> None:
    doomed, kept = fill(tmp_path, "a"), fill(tmp_path, "b")
    cells = np.array([(0, 0)], np.int32)
    size = disk_use(doomed.folder)
    assert remove_store(doomed.folder) == size
    assert not doomed.folder.exists()
    assert not doomed.has(cells).any()
    assert [info.folder for info in list_stores(tmp_path)] == [kept.folder]
    fill(tmp_path, "a")
    assert doomed.has(cells).all()


def test_removing_finishes_what_was_left_half_removed(tmp_path: Path) -> None:
    doomed = fill(tmp_path, "a").folder
    leftover = tmp_path / "00" / ("a." + "0" * 32 + ".partial")
    leftover.mkdir(parents=True)
    (leftover / "x.h5").write_bytes(b"x")
    remove_store(doomed)
    assert not leftover.exists()


def test_other_folders_are_never_removed(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no region store"):
        remove_store(tmp_path)
    assert tmp_path.exists()
