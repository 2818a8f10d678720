from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from xt_backend.errors import OutputError, StoreError, StoreVersionError
from xt_backend.keys import RegionStatus
from xt_backend.store import RegionStore, StoreKey, h5_image, store_folder

KEY = StoreKey("slide-a", {"model_mpp": 0.5, "region_px": 256}, {"weights": "w", "precision": "fp"})


def block(cells: list[tuple[int, int]], salt: float = 0) -> tuple[Any, Any, Any]:
    """Cells with features that follow from them, so that a mix-up is seen."""
    array = np.array(cells, np.int32).reshape(-1, 2)
    value = array[:, 0] * 32 + array[:, 1] + salt
    features = (value[:, None, None] + np.arange(24).reshape(4, 6) / 32).astype(np.float16)
    return array, features, np.zeros(len(array), np.uint8)


def raster(first: int, last: int) -> list[tuple[int, int]]:
    return [(i % 10, i // 10) for i in range(first, last)]


@pytest.fixture
def store(tmp_path: Path) -> RegionStore:
    store = RegionStore.open(tmp_path, KEY)
    for first in (0, 20, 40):
        store.append(*block(raster(first, first + 20)))
    return store


def shards(store: RegionStore) -> list[Path]:
    return sorted(store.folder.glob("*.h5"))


def assert_holds(store: RegionStore, cells: list[tuple[int, int]]) -> None:
    wanted, features, status = block(cells)
    got, got_status, found = store.load(wanted)
    assert found.all()
    np.testing.assert_array_equal(got, features)
    np.testing.assert_array_equal(got_status, status)


def test_rows_come_back_in_any_order_also_repeated(store: RegionStore, tmp_path: Path) -> None:
    cells = raster(0, 60)
    random.Random(1).shuffle(cells)
    for opened in (store, RegionStore.open(tmp_path, KEY)):
        assert len(opened) == 60
        assert_holds(opened, [*cells, cells[3], cells[3]])
        assert_holds(opened, cells[:7])
        assert opened.problems == []


def test_what_is_not_there_is_marked(store: RegionStore, tmp_path: Path) -> None:
    cells = np.array([(3, 0), (77, 77), (-1, 3), (3, -1)], np.int32)
    features, status, found = store.load(cells)
    assert found.tolist() == [True, False, False, False]
    assert store.has(cells).tolist() == found.tolist()
    assert np.isnan(features[1:]).all()
    assert np.isfinite(features[0]).all()
    assert status[1:].tolist() == [RegionStatus.SKIPPED] * 3
    empty, _, found = RegionStore.open(tmp_path / "other", KEY).load(cells)
    assert empty.shape == (4, 0, 0)
    assert not found.any()
    assert store.load(np.empty((0, 2), np.int32))[0].shape == (0, 4, 6)


def test_opening_an_absent_store_makes_no_folder(tmp_path: Path) -> None:
    assert len(RegionStore.open(tmp_path / "cache", KEY)) == 0
    assert not (tmp_path / "cache").exists()


def test_only_scored_regions_are_kept(tmp_path: Path) -> None:
    store = RegionStore.open(tmp_path, KEY)
    cells, features, status = block(raster(0, len(RegionStatus)))
    status[:] = list(RegionStatus)
    assert store.append(cells, features, status) == 2
    _, loaded, found = store.load(cells)
    assert found.tolist() == [status.scored for status in RegionStatus]
    assert loaded[:2].tolist() == [RegionStatus.OK, RegionStatus.EDGE]
    status[:] = RegionStatus.READ_ERROR
    assert store.append(cells, features, status) == 0
    assert len(shards(store)) == 1


def test_the_layout_on_disk(store: RegionStore, tmp_path: Path) -> None:
    assert store.folder == store_folder(tmp_path, KEY) == tmp_path / KEY.digest()[:2] / KEY.digest()
    index = json.loads((store.folder / "index.json").read_text())
    assert index["schema"] == 1
    assert index["key"] == KEY.to_dict()
    assert index["shards"] == {path.name: 20 for path in shards(store)}
    with h5py.File(shards(store)[0]) as file:
        assert file["features"].dtype == np.float16
        assert file["features"].shape == (20, 4, 6)
        assert file["features"].fletcher32
        assert (file["cell"].dtype, file["cell"].shape) == (np.int32, (20, 2))
        assert (file["status"].dtype, file["status"].shape) == (np.uint8, (20,))
        attrs = dict(file.attrs)
    assert attrs["rows"] == 20
    assert attrs["complete"] == 1
    assert attrs["key_digest"].decode() == KEY.digest()
    assert {"napari_xt_store_schema", "napari_xt_version", "content_sha256"} <= attrs.keys()
    for path in store.folder.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()


def test_equal_blocks_are_one_file(store: RegionStore) -> None:
    before = {path: path.read_bytes() for path in shards(store)}
    store.append(*block(raster(20, 40)))
    assert {path: path.read_bytes() for path in shards(store)} == before
    assert len(store) == 60


def test_of_two_shards_with_a_cell_the_last_by_name_counts(tmp_path: Path) -> None:
    store = RegionStore.open(tmp_path, KEY)
    by_name = {}
    for salt in (0, 1, 2, 3):
        before = set(shards(store))
        store.append(*block([(5, 5)], salt))
        (new,) = set(shards(store)) - before
        by_name[new.name] = salt
    wanted = block([(5, 5)], by_name[max(by_name)])
    for opened in (store, RegionStore.open(tmp_path, KEY)):
        assert len(opened) == 1
        np.testing.assert_array_equal(opened.load(wanted[0])[0], wanted[1])


def test_large_blocks_are_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xt_backend.store.region_store.SHARD_BYTES", 24 * 2 * 7)
    store = RegionStore.open(tmp_path, KEY)
    assert store.append(*block(raster(0, 20))) == 20
    assert len(shards(store)) == 3
    assert_holds(store, raster(0, 20))


@pytest.mark.parametrize(
    "wrong", ["features float32", "other tokens", "cells too few", "status too few"]
)
def test_arrays_that_do_not_fit_are_refused(store: RegionStore, wrong: str) -> None:
    cells, features, status = block(raster(70, 80))
    match wrong:
        case "features float32":
            features = features.astype(np.float32)
        case "other tokens":
            features = features[:, :1]
        case "cells too few":
            cells = cells[1:]
        case "status too few":
            status = status[1:]
    with pytest.raises(StoreError, match="Cannot store"):
        store.append(cells, features, status)
    assert len(store) == 60


def damage(path: Path, kind: str) -> None:
    data = bytearray(path.read_bytes())
    match kind:
        case "truncated":
            path.write_bytes(data[: len(data) // 2])
        case "empty":
            path.write_bytes(b"")
        case "web page":
            path.write_bytes(b"<html>502 Bad Gateway</html>")
        case "flipped":
            # In the features, which are read last.
            place = data.find(block(raster(20, 21))[1].tobytes()[:16])
            assert place > 0
            data[place] ^= 1
            path.write_bytes(data)


def flippable(store: RegionStore) -> Path:
    """The shard whose features `damage` can flip."""
    return next(p for p in shards(store) if block(raster(20, 21))[1].tobytes() in p.read_bytes())


@pytest.mark.parametrize("kind", ["truncated", "empty", "web page", "flipped"])
@pytest.mark.parametrize("when", ["before opening", "while open"])
def test_a_damaged_shard_is_moved_aside_and_its_rows_made_anew(
    store: RegionStore, tmp_path: Path, kind: str, when: str
) -> None:
    bad = flippable(store)
    if when == "while open":
        assert store.has(block(raster(0, 60))[0]).all()
    damage(bad, kind)
    if when == "before opening":
        store = RegionStore.open(tmp_path, KEY)
    _, _, found = store.load(block(raster(0, 60))[0])
    assert found.tolist() == [True] * 20 + [False] * 20 + [True] * 20
    assert_holds(store, raster(0, 20) + raster(40, 60))
    assert not bad.exists()
    assert bad.with_name(bad.name + ".bad").exists()
    (problem,) = store.problems
    assert bad.name in problem
    assert ".bad" in problem
    store.append(*block(raster(20, 40)))
    assert_holds(store, raster(0, 60))
    assert RegionStore.open(tmp_path, KEY).problems == []


def test_rows_of_a_damaged_shard_are_taken_from_another(store: RegionStore) -> None:
    small = shards(store)
    store.append(*block(raster(0, 60)))
    for path in small:
        damage(path, "truncated")
    assert_holds(store, raster(0, 60))


def test_a_shard_that_cannot_be_moved_is_not_used_either(
    store: RegionStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(shards(store)[0], "truncated")
    store = RegionStore(store.folder, KEY)

    def refuse(*args: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    for _ in range(2):
        assert store.load(block(raster(0, 60))[0])[2].sum() == 40
    (problem,) = store.problems
    assert "Permission denied" in problem


def test_verify_reads_everything(store: RegionStore) -> None:
    assert store.verify() == []
    damage(flippable(store), "flipped")
    (problem,) = store.verify()
    assert "digest differs" in problem or "damaged" in problem
    assert len(list(store.folder.glob("*.bad"))) == 1


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"schema": 1}', '{"schema": true}'])
def test_shards_are_used_without_a_good_index(
    store: RegionStore, tmp_path: Path, text: str | None
) -> None:
    path = store.folder / "index.json"
    path.unlink() if text is None else path.write_text(text)
    opened = RegionStore.open(tmp_path, KEY)
    assert_holds(opened, raster(0, 60))
    assert len(opened.problems) == (text is not None)
    opened.append(*block([(9, 9)]))
    assert RegionStore.open(tmp_path, KEY).problems == []


def test_a_stale_index_is_not_believed(store: RegionStore, tmp_path: Path) -> None:
    shards(store)[0].unlink()
    opened = RegionStore.open(tmp_path, KEY)
    assert len(opened) == len(store) == 40
    assert "1 of 3 shards are gone" in opened.problems[0]


OTHERS = {
    "slide": StoreKey("slide-b", KEY.lattice, KEY.numerics),
    "lattice.region_px": StoreKey("slide-a", {**KEY.lattice, "region_px": 512}, KEY.numerics),
    "numerics.weights": StoreKey("slide-a", KEY.lattice, {**KEY.numerics, "weights": "v"}),
    "numerics.precision": StoreKey("slide-a", KEY.lattice, {**KEY.numerics, "precision": "bf"}),
    "numerics.backend": StoreKey("slide-a", KEY.lattice, {**KEY.numerics, "backend": "ov"}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_nothing_made_otherwise_is_reused(store: RegionStore, tmp_path: Path, name: str) -> None:
    other = OTHERS[name]
    assert KEY.differences(other)[0].key == name
    assert len(RegionStore.open(tmp_path, other)) == 0

    folder = store_folder(tmp_path, other)
    shutil.copytree(store.folder, folder)
    with pytest.raises(StoreError, match=f"made from something else: {name} is"):
        RegionStore.open(tmp_path, other)

    (folder / "index.json").unlink()
    opened = RegionStore.open(tmp_path, other)
    assert len(opened) == 0
    assert len(opened.problems) == 3
    assert f"{name} is" in opened.problems[0]
    assert len(list(folder.glob("*.bad"))) == 3


def test_equal_keys_in_another_order_are_one_store() -> None:
    swapped = StoreKey("slide-a", {"region_px": 256.0, "model_mpp": 0.5}, dict(KEY.numerics))
    assert swapped.digest() == KEY.digest()
    assert KEY.differences(swapped) == []
    assert StoreKey.from_dict(json.loads(json.dumps(KEY.to_dict()))).digest() == KEY.digest()


def test_newer_stores_are_refused_and_left_alone(store: RegionStore, tmp_path: Path) -> None:
    index = store.folder / "index.json"
    good = index.read_text()
    index.write_text(json.dumps({**json.loads(good), "schema": 2, "version": "9.9"}))
    with pytest.raises(StoreVersionError, match=r"written by napari-xt 9\.9 .*Upgrade"):
        RegionStore.open(tmp_path, KEY)

    index.write_text(good)
    attrs = {"napari_xt_store_schema": 2, "napari_xt_version": "9.9"}
    newer = store.folder / "ff.h5"
    newer.write_bytes(h5_image({"anything": np.zeros(3)}, attrs))
    for use in (lambda: RegionStore.open(tmp_path, KEY), lambda: len(store)):
        with pytest.raises(StoreVersionError, match=r"written by napari-xt 9\.9 .*Upgrade"):
            use()
    assert newer.exists()


def test_a_cache_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no folder")
    store = RegionStore.open(tmp_path / "cache", KEY)
    with pytest.raises(OutputError):
        store.append(*block(raster(0, 3)))


APPENDER = """
import sys
from pathlib import Path
import numpy as np
from xt_backend.store import RegionStore, StoreKey
sys.path.insert(0, sys.argv[2])
from test_region_store import KEY, block, raster
store = RegionStore.open(Path(sys.argv[1]), KEY)
print("ready", flush=True)
for first in range(int(sys.argv[3]), 600, 7):
    store.append(*block(raster(first, first + 15)))
"""


def appender(cache: Path, first: int) -> subprocess.Popen[bytes]:
    here = str(Path(__file__).parent)
    return subprocess.Popen(
        [sys.executable, "-c", APPENDER, str(cache), here, str(first)], stdout=subprocess.PIPE
    )


def test_two_processes_append_at_the_same_time(tmp_path: Path) -> None:
    children = [appender(tmp_path, first) for first in (0, 3)]
    assert [child.wait() for child in children] == [0, 0]
    for child in children:
        assert child.stdout is not None
        child.stdout.close()
    store = RegionStore.open(tmp_path, KEY)
    assert_holds(store, raster(0, 600))
    assert store.verify() == []
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_killed_at_any_moment_the_store_is_good(tmp_path: Path) -> None:
    moments = random.Random(5)
    for _ in range(4):
        child = appender(tmp_path, 0)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        while not list(tmp_path.rglob("*.h5")) and child.poll() is None:
            time.sleep(0.005)  # who is killed before has nothing to lose
        time.sleep(moments.uniform(0.0, 0.4))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        store = RegionStore.open(tmp_path, KEY)
        cells = block(raster(0, 600))[0]
        kept = [tuple(cell) for cell in cells[store.has(cells)].tolist()]
        assert kept
        assert_holds(store, kept)
        assert store.problems == []
    time.sleep(0.1)  # file times are coarser than clocks
    RegionStore.open(tmp_path, KEY)
    assert not list(tmp_path.rglob("*.partial"))
