"""The shards that a store's folder holds: found, checked, moved aside where they are damaged."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from xt_backend.errors import StoreCorruptError, StoreError, StoreVersionError
from xt_backend.keys import RunFile, StoreH5
from xt_backend.store.row_table import RowTable
from xt_backend.store.shard import Shard, read_shard
from xt_backend.store.store_index import read_index, write_index
from xt_backend.store.store_key import StoreKey

__all__ = ["ShardFolder"]

_TRIES = 5
"""So often an index is published again that others have made untrue meanwhile."""


class ShardFolder:
    """What is known of a folder's shards. Not for several threads at once.

    Args:
        path: The folder, which need not exist.
        key: What the shards are made from.

    Attributes:
        shards: By name; of two that hold a cell, the one whose name sorts last counts.
        problems: What was found damaged and what became of it, as sentences.
    """

    def __init__(self, path: Path, key: StoreKey) -> None:
        self.path = path
        self.key = key
        self.shards: dict[str, Shard] = {}
        self.problems: list[str] = []
        self._ignored: set[str] = set()
        self._table: RowTable | None = None

    @property
    def in_order(self) -> list[Shard]:
        """The shards sorted by name, as `rows` counts them."""
        return [self.shards[name] for name in sorted(self.shards)]

    @property
    def rows(self) -> RowTable:
        """Where the row of each cell is."""
        if self._table is None:
            self._table = RowTable.of(self.in_order)
        return self._table

    @property
    def tokens(self) -> tuple[int, int] | None:
        """(kk, D) of all shards; None while there is none."""
        return next((shard.tokens for shard in self.shards.values()), None)

    def add(self, shard: Shard) -> None:
        """Take up a shard that was just published."""
        self._ignored.discard(shard.path.name)
        self.shards[shard.path.name] = shard
        self._table = None

    def drop(self, name: str) -> Shard:
        """Forget a shard, whose file stays."""
        self._table = None
        return self.shards.pop(name)

    def refresh(self, without: Collection[str] = ()) -> set[str]:
        """Take up shards that others have added, and forget those that are gone.

        Args:
            without: Names that are about to go.

        Returns:
            The names that were there, usable or not.

        Raises:
            StoreVersionError: A newer version has added to the store.
        """
        names = self._names() - set(without)
        if not self.shards.keys() <= names:
            # What joins shards publishes the new one before it removes the old ones, but a listing
            # taken meanwhile may show neither.
            names = self._names() - set(without)
        for name in self.shards.keys() - names:
            self.drop(name)
        for name in sorted(names - self.shards.keys() - self._ignored):
            try:
                shard = read_shard(self.path / name, self.key)
                if shard.tokens != (self.tokens or shard.tokens):
                    raise StoreCorruptError(
                        f"{name} holds tokens {shard.tokens}, the others {self.tokens}"
                    )
            except StoreError as error:
                self.set_aside(self.path / name, error)
            else:
                self.add(shard)
        return names

    def _names(self) -> set[str]:
        try:
            return {p.name for p in self.path.iterdir() if p.suffix == StoreH5.SHARD_SUFFIX}
        except (FileNotFoundError, NotADirectoryError):
            return set()
        except OSError as error:
            raise StoreError(
                f"The store {self.path.name[:12]} cannot be read ({error.strerror})",
                "Check the permissions of the cache, or use another with --cache",
            ) from error

    def set_aside(self, path: Path, error: StoreError) -> None:
        """Stop using a shard; move it aside if it is its content that is wrong."""
        self.shards.pop(path.name, None)
        self._table = None
        if isinstance(error, StoreVersionError):
            raise error
        if not path.exists():  # pruned by another process: nothing is wrong
            return
        fate = "not used"
        if isinstance(error, StoreCorruptError):
            try:
                os.replace(path, path.with_name(path.name + RunFile.BAD))
                fate = f"moved aside as {path.name}{RunFile.BAD}"
            except OSError as refused:
                fate = f"not used, and not moved aside either ({refused.strerror})"
        if path.exists():
            self._ignored.add(path.name)
        self._report(f"{error.cause}; {fate}, its regions are encoded again")

    def check_index(self) -> None:
        """Compare what the folder's index says; nothing depends on it.

        Raises:
            StoreError: It is the index of something else.
            StoreVersionError: A newer version wrote it.
        """
        try:
            index = read_index(self.path)
        except StoreCorruptError as error:
            self._report(f"{error.cause}; the shards are read without it")
            return
        if index is None:
            return
        if different := self.key.differences(index.key):
            raise StoreError(
                f"The store {self.path.name[:12]} was made from something else: {different[0]}",
                "Delete that store or use another cache with --cache",
            )
        if gone := [name for name in index.shards if not (self.path / name).exists()]:
            self._report(
                f"{len(gone)} of {len(index.shards)} shards are gone; "
                "their regions are encoded again"
            )

    def write_index(self, without: Collection[str] = ()) -> None:
        """Describe the folder, for people and other programs.

        Other processes may write and join shards at the same time. Each of them looks at the
        folder again when its index is published, so that the last one tells what is there.

        Args:
            without: Names that are about to go.

        Raises:
            OutputError: The folder cannot be written.
        """
        for _ in range(_TRIES):
            try:
                seen = self.refresh(without)
            except StoreVersionError:
                seen = None  # told to who reads; what is stored here is right all the same
            rows = {name: len(self.shards[name]) for name in sorted(self.shards)}
            write_index(self.path, self.key, rows)
            if seen is None or self._names() - set(without) == seen:
                return

    def _report(self, problem: str) -> None:
        self.problems.append(f"Store {self.path.name[:12]}: {problem}")
