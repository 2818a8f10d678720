"""A wrong option is named as it was written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., Any]


@pytest.mark.parametrize(
    ("flag", "value"),
    [("--stride", "0"), ("--batch-size", "0"), ("--max-failed-fraction", "2")],
)
def test_flags(call: Call, tissue_slide: Path, tiny_model: Path, flag: str, value: str) -> None:
    done = call("score", tissue_slide, "--model", tiny_model, "--out", "never", flag, value)
    assert done.returncode == 2
    assert f"Error: {flag} is " in done.stderr
    assert flag.removeprefix("--").replace("-", "_") not in done.stderr.replace(flag, "")


def test_entries_of_a_file(
    call: Call, tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("stride: abc\n")
    arguments = ("--model", tiny_model, "--out", tmp_path / "run", "--config", config)
    done = call("score", tissue_slide, *arguments)
    assert done.returncode == 2
    assert "Error: mine.yaml: stride is 'abc'. It should be a valid integer." in done.stderr
