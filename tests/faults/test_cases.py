"""The table of faults is complete, true, and what the documentation shows."""

from __future__ import annotations

import ast
from pathlib import Path

from support.cases import docs_table, read_cases


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


def test_every_protection_can_be_taken_away(checkout: Path) -> None:
    for case in read_cases():
        for item in case.removals:
            text = (checkout / item.path).read_text(encoding="utf-8")
            assert text.count(item.old) == 1, (
                f"case {case.number}: {item.path} no longer holds {item.old!r} once; name in "
                "cases.toml what protects now"
            )


def test_the_documentation_shows_it(checkout: Path) -> None:
    page = (checkout / "docs" / "safety.md").read_text(encoding="utf-8")
    assert docs_table(read_cases()) in page, "put the output of docs_table() into docs/safety.md"
