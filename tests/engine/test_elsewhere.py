"""Where another machine is, and how it calls the files of this one."""

from __future__ import annotations

from pathlib import Path

import pytest

from xt_backend.engine import Elsewhere, path_pairs
from xt_backend.errors import UsageError


@pytest.mark.parametrize("address", ["ray://host:10001", "host", ":6379", "host:http", ""])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="HOST:PORT"):
        Elsewhere.checked({"address": address})


@pytest.mark.parametrize("address", ["auto", "first-machine:6379", "[::1]:6379"])
def test_addresses_are_taken(address: str) -> None:
    assert Elsewhere.checked({"address": address}).address == address


def test_paths_are_mapped_by_whole_folders_and_the_innermost_pair() -> None:
    pairs = path_pairs("/data=/mnt/slides/; /data/new = /scratch\n/w=D:\\w")
    there = Elsewhere(address="auto", paths=pairs)
    assert there.mapped(Path("/data/a/b.svs")) == "/mnt/slides/a/b.svs"
    assert there.mapped(Path("/data/new/b.svs")) == "/scratch/b.svs"
    assert there.mapped(Path("/database/b.svs")) == "/database/b.svs"
    assert there.mapped(Path("/w/a/b.svs")) == "D:\\w\\a\\b.svs"


def test_a_path_without_a_pair_stays_but_is_whole() -> None:
    assert Elsewhere(address="auto").mapped(Path("b.svs")) == str(Path("b.svs").absolute())


@pytest.mark.parametrize("text", ["/data", "/data=", "=/mnt", "data=/mnt"])
def test_what_is_no_pair_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"no pair of folders|no whole path"):
        path_pairs(text)


def test_no_text_is_no_pair() -> None:
    assert path_pairs(" ;\n ") == ()
