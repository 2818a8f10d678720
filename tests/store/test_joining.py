"""Small shards become few: the same rows, for whoever reads, writes or is killed meanwhile."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xt_backend.errors import NoSpaceError, StoreVersionError
from xt_backend.keys import RegionStatus
from xt_backend.store import RegionStore, StoreKey, h5_image, joining, region_store, shard_folder
from xt_backend.store.shard import read_shard
from xt_backend.store.shard_folder import ShardFolder
from xt_backend.store.store_index import read_index, write_index

KEY = StoreKey("slide-a", {"model_mpp": 0.5}, {"weights": "w"})
N = 200
CELLS = np.stack(np.divmod(np.arange(N), 20)[::-1], axis=1).astype(np.int32)
FEATURES = (np.arange(N)[:, None, None] + np.arange(6).reshape(2, 3) / 8).astype(np.float16)
STATUS = np.where(np.arange(N) % 7, RegionStatus.OK, RegionStatus.EDGE).astype(np.uint8)


@pytest.fixture
def store(tmp_path: Path) -> RegionStore:
    """Twenty shards, in an order that is not that of the slide."""
    store = RegionStore.open(tmp_path, KEY)
    for part in np.array_split(np.random.default_rng(0).permutation(N), 20):
        store.append(CELLS[part], FEATURES[part], STATUS[part])
    return store


def files(store: RegionStore) -> list[Path]:
    return sorted(store.folder.glob("*.h5"))


def assert_whole(store: RegionStore) -> None:
    features, status, found = store.load(CELLS)
    assert found.all()
    np.testing.assert_array_equal(features, FEATURES)
    np.testing.assert_array_equal(status, STATUS)


def test_the_rows_stay_and_the_files_go(store: RegionStore, tmp_path: Path) -> None:
    other = RegionStore.open(tmp_path, KEY)
    assert store.join() == 20
    assert len(files(store)) == 1
    for one in (store, other, RegionStore.open(tmp_path, KEY)):
        assert_whole(one)
        assert one.problems == []


def test_a_few_small_shards_are_let_be(store: RegionStore) -> None:
    before = files(store)
    assert store.join(fewest=21) == 0
    assert files(store) == before


def test_what_is_joined_is_not_joined_again(
    store: RegionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "JOINED_BYTES", FEATURES[:64].nbytes)
    assert store.join() == 20
    sizes = sorted(len(read_shard(path, KEY)) for path in files(store))
    assert sizes == [8, 64, 64, 64]
    assert store.join(fewest=2) == 0
    assert_whole(store)


def test_rows_of_large_shards_are_not_copied(
    store: RegionStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "JOINED_BYTES", 2 * FEATURES[:20].nbytes - 1)
    store.append(CELLS[:100], FEATURES[:100], STATUS[:100])  # larger than half of that
    store.join()
    rows = [len(read_shard(path, KEY)) for path in files(store)]
    assert max(rows) == 100
    assert sum(rows) <= N + 100
    assert_whole(store)


def test_on_a_full_disk_all_stays(store: RegionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "JOINED_BYTES", FEATURES[:64].nbytes)
    write, calls = region_store.write_shard, []

    def second_fails(*args: object) -> object:
        calls.append(args)
        if len(calls) == 2:
            raise NoSpaceError("No space left", "Free some")
        return write(*args)  # type: ignore[arg-type]

    before = set(files(store))
    monkeypatch.setattr(region_store, "write_shard", second_fails)
    with pytest.raises(NoSpaceError):
        store.join()
    assert before <= set(files(store))
    assert_whole(store)
    assert_whole(RegionStore.open(store.folder.parents[1], KEY))


def test_a_disk_that_is_nearly_full_is_not_filled(
    store: RegionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = shutil.disk_usage(store.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: used._replace(free=FEATURES.nbytes))
    before = files(store)
    assert store.join() == 0
    assert files(store) == before


def test_a_damaged_shard_ends_it_and_is_moved_aside(store: RegionStore) -> None:
    first = files(store)[0]
    first.write_bytes(first.read_bytes()[:-40])
    store = RegionStore.open(store.folder.parents[1], KEY)
    store.join()
    _, _, found = store.load(CELLS)
    assert found.sum() == N - 10
    assert len(store.problems) == 1


def test_who_appends_meanwhile_writes_a_true_index(store: RegionStore, tmp_path: Path) -> None:
    other = RegionStore.open(tmp_path, KEY)
    assert len(other) == N
    store.join()
    other.append(CELLS[:1] + 1000, FEATURES[:1], STATUS[:1])
    assert RegionStore.open(tmp_path, KEY).problems == []


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[], object]], None]:
    """Has something done once, right before or right after the next index is published."""

    def arrange(when: str, what: Callable[[], object]) -> None:
        left = [what]

        def publish(*arguments: Any) -> None:
            if left and when == "before":
                left.pop()()
            write_index(*arguments)
            if left:
                left.pop()()

        monkeypatch.setattr(shard_folder, "write_index", publish)

    return arrange


def assert_true_index(store: RegionStore) -> None:
    index = read_index(store.folder)
    assert index is not None
    assert sorted(index.shards) == [path.name for path in files(store)]
    again = RegionStore.open(store.folder.parents[1], KEY)
    assert again.problems == []
    assert sum(index.shards.values()) == len(again)


@pytest.mark.parametrize("when", ["before", "after"])
def test_two_who_append_at_once_leave_a_true_index(
    store: RegionStore, between: Callable[..., None], tmp_path: Path, when: str
) -> None:
    other = RegionStore.open(tmp_path, KEY)
    further = CELLS[:3] + 1000
    between(when, lambda: other.append(further, FEATURES[:3], STATUS[:3]))
    store.append(CELLS[:1] + 2000, FEATURES[:1], STATUS[:1])
    assert store.has(further).all()
    assert_true_index(store)


@pytest.mark.parametrize("when", ["before", "after"])
def test_who_joins_while_another_publishes_leaves_a_true_index(
    store: RegionStore, between: Callable[..., None], tmp_path: Path, when: str
) -> None:
    other = RegionStore.open(tmp_path, KEY)
    between(when, lambda: store.join())
    other.append(CELLS[:1] + 1000, FEATURES[:1], STATUS[:1])
    assert_whole(other)
    assert_true_index(other)


@pytest.mark.parametrize("when", ["before", "after"])
def test_who_appends_while_another_joins_leaves_a_true_index(
    store: RegionStore, between: Callable[..., None], tmp_path: Path, when: str
) -> None:
    other = RegionStore.open(tmp_path, KEY)
    assert len(other) == N
    between(when, lambda: other.append(CELLS[:1] + 1000, FEATURES[:1], STATUS[:1]))
    assert store.join() == 20
    assert_whole(store)
    assert_true_index(store)


def test_a_shard_of_a_newer_version_does_not_keep_rows_from_being_stored(
    store: RegionStore, tmp_path: Path
) -> None:
    attrs = {"napari_xt_store_schema": 2, "napari_xt_version": "9.9"}
    (store.folder / "ff.h5").write_bytes(h5_image({"anything": np.zeros(3)}, attrs))
    assert store.append(CELLS[:1] + 1000, FEATURES[:1], STATUS[:1]) == 1
    with pytest.raises(StoreVersionError):
        len(store)


def test_a_listing_taken_while_another_process_joins_loses_nothing(
    store: RegionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store.has(CELLS).all()
    listed = [set[str]()]  # the old shards are gone already, the new one is not there yet
    names = ShardFolder._names

    def interrupted(folder: ShardFolder) -> set[str]:
        return listed.pop() if listed else names(folder)

    monkeypatch.setattr(ShardFolder, "_names", interrupted)
    assert store.has(CELLS).all()
    assert not listed
