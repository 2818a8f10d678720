"""docs/library.ipynb: it runs, shows what it says it shows, and tells of nobody's folders."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")


@pytest.fixture
def script(checkout: Path) -> Any:
    path = str(checkout / "scripts" / "notebook")
    spec = importlib.util.spec_from_file_location(
        "notebook_script",
        path,
        loader=importlib.machinery.SourceFileLoader("notebook_script", path),
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def kinds(book: Any) -> list[list[set[str]]]:
    return [
        [set(output.get("data", {"text"})) for output in cell.outputs]
        for cell in book.cells
        if cell.cell_type == "code"
    ]


def texts(book: Any) -> list[str]:
    return [
        value
        for cell in book.cells
        for output in cell.get("outputs", ())
        for kind, value in sorted(output.get("data", output).items())
        if kind in {"text", "text/plain", "text/html"}
    ]


def test_it_runs_as_it_stands(script: Any, tmp_path: Path) -> None:
    pytest.importorskip("anndata", exc_type=ImportError)
    stored = nbformat.read(script.NOTEBOOK, as_version=4)
    nbformat.validate(stored)
    fresh = script.executed(script.NOTEBOOK, tmp_path)  # a cell that fails raises
    assert kinds(fresh) == kinds(stored)
    assert [len(text.split()) for text in texts(fresh)] == [len(t.split()) for t in texts(stored)]
    assert "230 of 230 regions scored" in texts(fresh)[-1]
    assert str(tmp_path) not in nbformat.writes(fresh)


def test_what_is_stored_is_executed_small_and_without_folders(script: Any) -> None:
    stored = nbformat.read(script.NOTEBOOK, as_version=4)
    counts = [cell.execution_count for cell in stored.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert script.NOTEBOOK.stat().st_size < 200_000
    assert len(texts(stored)) > 8
    for text in texts(stored):
        assert not re.search(r"/(home|root|tmp|work|Users|usr|opt)\b|[A-Z]:\\", text)
