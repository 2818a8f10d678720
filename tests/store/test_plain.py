from __future__ import annotations

import json
from pathlib import Path, PureWindowsPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xt_backend.errors import UsageError
from xt_backend.keys import SlideStatus
from xt_backend.store import canonical_json, differences, plain_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner),
    max_leaves=8,
)


@given(JSON)
def test_json_stays_what_it_is(value: object) -> None:
    assert plain_json(value) == value
    assert differences(value, json.loads(canonical_json(value))) == []
    assert canonical_json(json.loads(canonical_json(value))) == canonical_json(value)


def test_other_values_become_json() -> None:
    value = {
        "array": np.arange(3, dtype=np.uint8),
        "number": np.float32(0.5),
        "flag": np.bool_(True),
        "word": SlideStatus.DONE,
        "pair": (1, 2),
        "nan": [float("nan"), np.inf],
    }
    assert plain_json(value) == {
        "array": [0, 1, 2],
        "number": 0.5,
        "flag": True,
        "word": "done",
        "pair": [1, 2],
        "nan": [None, None],
    }
    assert type(plain_json(value)["word"]) is str


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("/data/DOE/x.svs", "x.svs"),
        ("~/DOE/x.svs", "x.svs"),
        ("C:\\DOE\\x.svs", "x.svs"),
        ("d:/DOE/x.svs", "x.svs"),
        ("\\\\server\\DOE\\x.svs", "x.svs"),
        ("file:///DOE/x.svs", "x.svs"),
        (Path("/data/DOE/x.svs"), "x.svs"),
        (Path("DOE/x.svs"), "DOE/x.svs"),
        (PureWindowsPath("C:/DOE/x.svs"), "x.svs"),
        ("hf-hub:org/model", "hf-hub:org/model"),
        ("um/px", "um/px"),
        ("/", ""),
    ],
)
def test_only_the_last_name_of_a_path_is_kept(text: object, kept: str) -> None:
    assert plain_json([text]) == [kept]
    assert plain_json([text], keep_folders=True) == [str(text)]


@pytest.mark.parametrize("value", [object(), {1: 2}, b"bytes", {"a": {"b": [0, {3}]}}])
def test_what_json_cannot_hold_is_refused_by_name(value: object) -> None:
    with pytest.raises(UsageError, match=r"^thing"):
        plain_json(value, key="thing")


def test_differences_are_named_in_order() -> None:
    here = {"a": 1, "b": {"c": [1, 2], "d": "x", "e": True}, "f": None}
    there = {"g": 0, "b": {"d": "y", "c": [1, 3], "e": 1}, "a": 1.0}
    found = differences(here, there)
    assert [d.key for d in found] == ["b.c", "b.d", "b.e", "f", "g"]
    assert str(found[1]) == "b.d is 'y' there and 'x' here"
