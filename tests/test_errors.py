"""The tree of errors."""

from __future__ import annotations

import ast
import pickle
from pathlib import Path

import pytest

import xt_backend
from xt_backend import errors

PACKAGE = Path(xt_backend.__file__).parent


def test_every_error_of_the_package_is_defined_in_one_place_and_in_its_tree() -> None:
    elsewhere = [
        f"{path.relative_to(PACKAGE)}: {node.name}"
        for path in PACKAGE.rglob("*.py")
        if path.name != "errors.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        and any(isinstance(base, ast.Name) and base.id in errors.__all__ for base in node.bases)
    ]
    assert elsewhere == []
    assert errors.__doc__ is not None
    assert [name for name in errors.__all__ if name not in errors.__doc__] == []


@pytest.mark.parametrize("name", errors.__all__)
def test_errors_cross_process_borders_whole(name: str) -> None:
    error = getattr(errors, name)("what is wrong", "what to do")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == "what is wrong. What to do."
    assert again.exit_code in (2, 3, 5)
