"""Decoded tiles: kept up to a bound, shared, and their memory used again only when it is free."""

from __future__ import annotations

from xt_backend.slides.tile_memory import Tile, TileMemory

SIDE = 8
BYTES = SIDE * SIDE * 3


def _get(memory: TileMemory, index: int, *, side: int = SIDE) -> tuple[Tile, bool]:
    """A tile, and whether it had to be decoded; filled with its index."""
    (tile,), mine = memory.borrow([(0, index)], side, side)
    if mine:
        tile.pixels[:] = index
        memory.settle(tile, True)
    return tile, bool(mine)


def _all_good(memory: TileMemory, n: int, *, kept: int) -> None:
    for index in range(n):
        tile, _ = _get(memory, index)
        assert (tile.pixels == index).all()
        memory.give_back([tile])
        assert memory.n_bytes <= kept * BYTES


def test_the_tiles_used_last_are_kept() -> None:
    memory = TileMemory(3 * BYTES)
    _all_good(memory, 5, kept=3)
    assert [memory.has((0, index)) for index in range(5)] == [False, False, True, True, True]
    tile, new = _get(memory, 2)
    assert not new
    memory.give_back([tile])
    memory.give_back([_get(memory, 9)[0]])
    assert memory.has((0, 2))
    assert not memory.has((0, 3))


def test_memory_of_a_dropped_tile_waits_for_its_reader() -> None:
    memory = TileMemory(BYTES)
    held, _ = _get(memory, 1)
    _all_good(memory, 40, kept=1)
    assert (held.pixels == 1).all()
    memory.give_back([held])


def test_dropped_memory_is_used_again() -> None:
    memory = TileMemory(2 * BYTES)
    places = set()
    for index in range(50):
        tile, _ = _get(memory, index)
        places.add(tile.pixels.ctypes.data)
        memory.give_back([tile])
    assert len(places) <= 4


def test_a_tile_larger_than_the_bound_is_lent_and_not_kept() -> None:
    memory = TileMemory(BYTES // 2)
    tile, new = _get(memory, 3)
    assert new
    assert memory.n_bytes == 0
    assert (tile.pixels == 3).all()
    memory.give_back([tile])
    assert _get(memory, 3)[1]


def test_tiles_of_other_sizes_do_not_mix() -> None:
    memory = TileMemory(BYTES)
    for index in range(6):
        side = SIDE + index % 2
        tile, _ = _get(memory, index, side=side)
        assert tile.pixels.shape == (side, side, 3)
        memory.give_back([tile])


def test_what_could_not_be_decoded_is_not_kept() -> None:
    memory = TileMemory(9 * BYTES)
    (tile,), mine = memory.borrow([(0, 1)], SIDE, SIDE)
    assert mine == [tile]
    memory.settle(tile, False)
    memory.wait([tile])
    memory.give_back([tile])
    assert not memory.has((0, 1))
    assert memory.n_bytes == 0


def test_the_same_tile_asked_for_twice_at_once_is_decoded_once() -> None:
    memory = TileMemory(9 * BYTES)
    tiles, mine = memory.borrow([(0, 1), (0, 1)], SIDE, SIDE)
    assert tiles[0] is tiles[1]
    assert mine == [tiles[0]]
    memory.settle(tiles[0], True)
    memory.give_back(tiles)


def test_after_the_end_nothing_is_kept() -> None:
    memory = TileMemory(9 * BYTES)
    held, _ = _get(memory, 1)
    memory.close()
    assert memory.n_bytes == 0
    assert (held.pixels == 1).all()
    memory.give_back([held])
    tile, new = _get(memory, 1)
    assert new
    assert memory.n_bytes == 0
    memory.give_back([tile])
