"""What is encoded reaches the disk while work goes on, and no more than a block waits for it."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from xt_backend.engine.blocks import BLOCK_ROWS, StoreWriter
from xt_backend.engine.stages import Stages
from xt_backend.errors import OutputError, StoreError


class SlowStore:
    """Stores when it is let."""

    def __init__(self, error: Exception | None = None) -> None:
        self.rows = 0
        self.may = threading.Semaphore(0)
        self.error = error
        self.joined_at: int | None = None

    def append(self, cells: Any, features: Any, status: Any) -> None:
        assert self.may.acquire(timeout=250)
        if self.error is not None:
            raise self.error
        self.rows += len(cells)

    def join(self) -> None:
        self.joined_at = self.rows


def part(n: int) -> tuple[Any, Any, Any]:
    return np.zeros((n, 2), np.int32), np.zeros((n, 1, 4), np.float16), np.zeros(n, np.uint8)


def test_never_more_than_a_block_waits_for_the_disk() -> None:
    store = SlowStore()
    taken = most = 0
    with StoreWriter(store, Stages()) as writer:  # type: ignore[arg-type]
        for _ in range(4 * BLOCK_ROWS // 16):
            if taken - store.rows + 16 >= BLOCK_ROWS:
                store.may.release()  # only now may a shard be written
            writer.add(*part(16))
            taken += 16
            most = max(most, taken - store.rows)
        for _ in range(10):
            store.may.release()
    assert store.rows == taken == 4 * BLOCK_ROWS
    assert most <= BLOCK_ROWS


def test_an_error_of_the_disk_reaches_whoever_encodes() -> None:
    store = SlowStore(StoreError("No room", "Make some"))
    for _ in range(10):
        store.may.release()

    def encode() -> None:
        with StoreWriter(store, Stages()) as writer:  # type: ignore[arg-type]
            for _ in range(2 * BLOCK_ROWS // 16):
                writer.add(*part(16))

    with pytest.raises(StoreError, match="No room"):
        encode()


def test_shards_are_joined_when_all_is_written() -> None:
    store = SlowStore()
    store.may.release(99)
    with StoreWriter(store, Stages()) as writer:  # type: ignore[arg-type]
        for _ in range(20):
            writer.add(*part(16))
        writer.complete()
    assert store.joined_at == 320


def test_a_cancelled_run_does_not_stay_to_join() -> None:
    store = SlowStore()
    store.may.release(99)
    with StoreWriter(store, Stages()) as writer:  # type: ignore[arg-type]
        writer.add(*part(16))
    assert (store.rows, store.joined_at) == (16, None)


def test_that_shards_cannot_be_joined_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OutputError("The folder cannot be written", "Change that")

    store = SlowStore()
    store.may.release(99)
    monkeypatch.setattr(store, "join", fail)
    with StoreWriter(store, Stages()) as writer:  # type: ignore[arg-type]
        writer.add(*part(16))
        writer.complete()
    assert store.rows == 16


def test_nothing_is_joined_after_an_error() -> None:
    store = SlowStore()
    store.may.release(99)
    writer = StoreWriter(store, Stages())  # type: ignore[arg-type]
    writer.add(*part(16))
    writer.complete()
    writer.__exit__(RuntimeError, RuntimeError("the encoder failed"), None)
    assert (store.rows, store.joined_at) == (16, None)
