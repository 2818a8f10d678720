"""Words that messages share."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from xt_backend.wording import counted, on_one_line, size_words


@pytest.mark.parametrize(
    ("n", "said"),
    [(0, "0 regions"), (1, "1 region"), (2, "2 regions"), (12345, "12,345 regions")],
)
def test_one_is_no_plural(n: int, said: str) -> None:
    assert counted(n, "region") == said


def test_some_plurals_are_not_made_by_an_s() -> None:
    assert [counted(n, "class", "classes") for n in (1, 2)] == ["1 class", "2 classes"]


def test_sizes_are_told_in_a_unit_that_shows_something() -> None:
    told = [size_words(n) for n in (0, 5300, 12_500_000, 3_000_000_000)]
    assert told == ["0.0 kB", "5.3 kB", "12.5 MB", "3.0 GB"]


def test_a_message_is_one_line_and_can_be_made_so_twice() -> None:
    said = on_one_line("C:\\new\r\n\x1b[2Jø\u2028\u202e\udce9.svs")
    assert said == "C:\\new\\r\\n\\x1b[2Jø\\u2028\\u202e\\udce9.svs"
    assert on_one_line(said) == said


def test_no_message_leaves_the_plural_to_the_reader(checkout: Path) -> None:
    plural = re.compile(r"\w\((?:s|es)\)[^(]*[\"']")
    found = [
        f"{path.name}: {line.strip()}"
        for package in ("napari_xt", "src_backend")
        for path in (checkout / package).rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if plural.search(line)
    ]
    assert found == []
