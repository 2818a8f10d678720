"""The table of faults is complete, true, and what the documentation shows."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest
from support import unprotect
from support.cases import docs_table, read_cases, without_protection


def test_every_case_has_tests_that_are_there(checkout: Path) -> None:
    cases = read_cases()
    assert [case.number for case in cases] == list(range(1, 36))
    for case in cases:
        assert case.red in case.tests, case.number
        for test in case.tests:
            path, name = test.split("::")
            tree = ast.parse((checkout / path).read_text(encoding="utf-8"))
            names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
            # A state machine of hypothesis is a test by its name alone.
            names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
            assert name in names, test


def test_every_case_has_a_test_of_its_name() -> None:
    for case in read_cases():
        called = f"::test_case_{case.number:02}_"
        assert any(called in test for test in case.tests), case.number


def test_every_protection_can_be_taken_away(checkout: Path) -> None:
    """What `scripts/unprotect` does for minutes, but for running the tests then."""
    unprotected = [case.number for case in read_cases() if not without_protection(case, checkout)]
    assert unprotected == [], "name in cases.toml what protects"


def test_a_protection_that_has_moved_is_noticed(checkout: Path) -> None:
    case = read_cases()[1]
    (item,) = case.removals
    for old, new, said in (
        ("no such line", "", "no longer holds"),
        ("import os\n", "import os\n(\n", "is no Python any more"),
    ):
        moved = replace(case, removals=(replace(item, old=old, new=new),))
        with pytest.raises(ValueError, match=said):
            without_protection(moved, checkout)


@pytest.mark.parametrize(
    ("body", "passes", "said"),
    [
        ("assert True", True, ""),
        ("assert 1 == 2", False, "E assert 1 == 2"),
        ("pytest.skip('no screen')", True, "no screen"),
    ],
)
def test_a_test_that_did_not_run_is_told_from_one_that_noticed_nothing(
    tmp_path: Path, body: str, passes: bool, said: str
) -> None:
    (tmp_path / "test_it.py").write_text(f"import pytest\n\ndef test_it():\n    {body}\n")
    found, told = unprotect._test(tmp_path, "test_it.py")
    assert found == passes
    assert bool(told) == bool(said)
    assert said in told


def test_the_documentation_shows_it(checkout: Path) -> None:
    page = (checkout / "docs" / "safety.md").read_text(encoding="utf-8")
    assert docs_table(read_cases()) in page, "put the output of docs_table() into docs/safety.md"
