"""Where the time of a run goes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from xt_backend.engine import PARTS, Stages


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    return clock


def test_what_is_counted_inside_counts_once(clock: Clock) -> None:
    stages = Stages()
    with stages.timed("open"):
        clock.now += 1
        with stages.timed("probe"):
            clock.now += 2
            with stages.timed("load"):
                clock.now += 4
        with stages.timed("load"):
            clock.now += 8
        clock.now += 16
    clock.now += 32
    told = stages.all_told()
    assert (told["open"], told["probe"], told["load"]) == (17, 2, 12)
    assert (told["other"], told["total"]) == (32, 63)
    assert sum(told[name] for name in (*PARTS, "other")) == told["total"]


def test_what_fails_counts_too(clock: Clock) -> None:
    stages = Stages()

    def fail() -> None:
        with stages.timed("open"), stages.timed("load"):
            clock.now += 1
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    with stages.timed("open"):
        clock.now += 2
    assert (stages.to_dict()["load"], stages.to_dict()["open"]) == (1, 2)


def test_another_thread_is_no_part_of_what_waits_for_it(clock: Clock) -> None:
    stages = Stages()

    def store() -> None:
        with stages.timed("store"):
            clock.now += 1

    with stages.timed("write"):
        thread = threading.Thread(target=store)
        thread.start()
        thread.join()
    told = stages.all_told()
    assert (told["store"], told["write"], told["other"]) == (1, 1, 0)
