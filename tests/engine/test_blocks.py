"""What is encoded reaches the disk while work goes on, and no more than a block waits for it."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from xt_backend.engine.blocks import BLOCK_ROWS, StoreWriter
from xt_backend.engine.stages import Stages
from xt_backend.errors import StoreError


class SlowStore:
    """Stores when it is let."""

    def __init__(self, error: Exception | None = None) -> None:
        self.rows = 0
        self.may = threading.Semaphore(0)
        self.error = error

    def append(self, cells: Any, features: Any, status: Any) -> None:
        assert self.may.acquire(timeout=20)
        if self.error is not None:
            raise self.error
        self.rows += len(cells)


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
