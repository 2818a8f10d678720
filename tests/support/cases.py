"""The table of faults, tests/faults/cases.toml."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Case", "Removal", "docs_table", "read_cases", "without_protection"]

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT / "tests" / "faults" / "cases.toml"


@dataclass(frozen=True)
class Removal:
    """A text of the product, and what takes its place where its protection is taken away."""

    path: str
    old: str
    new: str


@dataclass(frozen=True)
class Case:
    """A fault that is withstood.

    Attributes:
        tests: Node ids of the tests that show it.
        protection: In words, for the documentation.
        long: What the long form of its tests came to, for the documentation.
        removals: Together they take the protection away.
        red: Node id of the test that fails then.
    """

    number: int
    fault: str
    tests: tuple[str, ...]
    protection: str
    long: str
    removals: tuple[Removal, ...]
    red: str


def read_cases() -> list[Case]:
    """All of them, as they stand in the file."""
    found = tomllib.loads(CASES.read_text(encoding="utf-8"))["case"]
    return [
        Case(
            item["number"],
            item["fault"],
            tuple(item["tests"]),
            item["protection"],
            item.get("long", ""),
            tuple(Removal(_place(path), *texts) for path, *texts in item["remove"]),
            item.get("red", item["tests"][0]),
        )
        for item in found
    ]  # fmt: skip


def _place(path: str) -> str:
    return path if path.startswith("napari_xt/") else f"src_backend/xt_backend/{path}"


def without_protection(case: Case, folder: Path = ROOT) -> dict[str, str]:
    """Texts of the files that protect, without what protects, by path below the folder.

    Args:
        case: The fault.
        folder: A copy of the checkout.

    Raises:
        ValueError: What is to be taken away does not stand there once, or leaves no Python.
    """
    texts: dict[str, str] = {}
    for item in case.removals:
        text = texts.get(item.path) or (folder / item.path).read_text(encoding="utf-8")
        if text.count(item.old) != 1:
            raise ValueError(
                f"case {case.number}: {item.path} no longer holds {item.old!r} once; name in "
                "cases.toml what protects now"
            )
        texts[item.path] = text.replace(item.old, item.new)
    for path, text in texts.items():
        try:
            compile(text, path, "exec")
        except SyntaxError as error:
            raise ValueError(
                f"case {case.number}: {path} is no Python any more: {error}"
            ) from error
    return texts


def docs_table(cases: list[Case]) -> str:
    """The lines of docs/safety.md that show them."""
    lines = ["| | fault | tests | protection | long run |", "|---|---|---|---|---|"]
    for case in cases:
        tests = "<br>".join(f"`{test.removeprefix('tests/')}`" for test in case.tests)
        lines.append(
            f"| {case.number} | {case.fault} | {tests} | {case.protection} | {case.long} |"
        )
    return "\n".join(lines)
