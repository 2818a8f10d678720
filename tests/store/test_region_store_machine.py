"""A region store against a dictionary, under appending, losing, damaging and reopening."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from xt_backend.keys import RegionStatus
from xt_backend.store import RegionStore, StoreKey

KEY = StoreKey("s", {"a": 1}, {"b": 2})
CELLS = np.array([(col, row) for row in range(4) for col in range(4)], np.int32)
ROWS = st.lists(
    st.tuples(st.integers(0, 15), st.integers(0, 255), st.sampled_from(RegionStatus)),
    min_size=1,
    max_size=12,
)


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.cache = Path(tempfile.mkdtemp())
        self.store = RegionStore.open(self.cache, KEY)
        self.model: dict[str, dict[int, tuple[int, int]]] = {}

    def teardown(self) -> None:
        shutil.rmtree(self.cache)

    def names(self) -> set[str]:
        return {path.name for path in self.store.folder.glob("*.h5")}

    @rule(rows=ROWS)
    def append(self, rows: list[tuple[int, int, RegionStatus]]) -> None:
        before = self.names()
        cells = CELLS[[cell for cell, _, _ in rows]]
        values = np.array([value for _, value, _ in rows], np.float16)
        features = np.broadcast_to(values[:, None, None], (len(rows), 2, 3)).copy()
        status = np.array([status for _, _, status in rows], np.uint8)
        kept = self.store.append(cells, features, status)
        good = {cell: (value, int(s)) for cell, value, s in rows if s.scored}
        assert kept == sum(s.scored for _, _, s in rows)
        # An equal block is the same shard.
        for name in self.names() - before:
            self.model[name] = good

    @rule()
    def reopen(self) -> None:
        self.store = RegionStore.open(self.cache, KEY)

    @precondition(lambda self: self.model)
    @rule()
    def join(self) -> None:
        """Also of shards that another process has added or taken away meanwhile."""
        wanted: dict[int, tuple[int, int]] = {}
        for name in sorted(self.model):
            wanted.update(self.model[name])
        assert self.store.join(fewest=2) in (0, len(self.model))
        if len(self.model) > 1:
            (name,) = self.names()
            self.model = {name: wanted}

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.model)))
        (self.store.folder / name).unlink()
        del self.model[name]

    @precondition(lambda self: self.model)
    @rule(data=st.data(), share=st.floats(0, 0.99))
    def truncate(self, data: st.DataObject, share: float) -> None:
        name = data.draw(st.sampled_from(sorted(self.model)))
        path = self.store.folder / name
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        del self.model[name]
        self.store.verify()
        assert not path.exists()

    @precondition(lambda self: self.model)
    @rule(data=st.data(), share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
    def flip(self, data: st.DataObject, share: float, bit: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.model)))
        path = self.store.folder / name
        content = bytearray(path.read_bytes())
        content[int(share * len(content))] ^= 1 << bit
        path.write_bytes(content)
        # Damage may hit a byte that means nothing; what is kept must then be right.
        self.store = RegionStore.open(self.cache, KEY)
        self.store.verify()
        if not path.exists():
            del self.model[name]

    @rule(text=st.sampled_from([None, "", "{}", "null"]))
    def harm_index(self, text: str | None) -> None:
        index = self.store.folder / "index.json"
        if text is None:
            index.unlink(missing_ok=True)
        elif index.exists():
            index.write_text(text)

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        wanted: dict[int, tuple[int, int]] = {}
        for name in sorted(self.model):
            wanted.update(self.model[name])
        features, status, found = self.store.load(CELLS)
        assert found.tolist() == [cell in wanted for cell in range(len(CELLS))]
        for cell, (value, state) in wanted.items():
            assert (features[cell] == value).all()
            assert status[cell] == state
        assert len(self.store) == len(wanted)


# A quarter of the profile's examples: each is a store on disk.
StoreMachine.TestCase.settings = settings(
    max_examples=settings().max_examples // 4, stateful_step_count=15
)
TestStoreMachine = StoreMachine.TestCase
