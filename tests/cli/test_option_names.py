"""A wrong option is named as it was written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xt_backend.cli.options import given_flags

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


def test_what_is_given_is_all_parameters_but_those_left_out() -> None:
    def command(
        inputs: list[Path],
        stride: int | None = None,
        seed: int | None = None,
        layouts: list[str] | None = None,
        dry_run: bool = False,
        context: str | None = None,
        config: Path | None = None,
    ) -> dict[str, Any]:
        return given_flags(locals(), "inputs", context=None if context is None else False)

    slides = [Path("a.svs")]
    assert command(slides) == {}
    assert command(slides, layouts=[], config=Path("mine.yaml")) == {}
    assert command(slides, seed=0, layouts=["report"], dry_run=True, context="off") == {
        "seed": 0,
        "layouts": ("report",),
        "dry_run": True,
        "context": False,
    }
