"""What scripts/check says of packages with known vulnerabilities."""

from __future__ import annotations

import importlib.util
import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

SOUND = {"name": "sound", "version": "1", "vulns": []}
UNKNOWN = {"name": "unknown", "skip_reason": "not found"}
BAD = {"name": "bad", "version": "2", "vulns": [
    {"id": "PYSEC-1", "aliases": ["CVE-2026-1"], "fix_versions": ["2.1"]}]}  # fmt: skip


@pytest.fixture
def audit(checkout: Path) -> Any:
    spec = importlib.util.spec_from_file_location("audit", checkout / "scripts" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        (json.dumps({"dependencies": [SOUND, UNKNOWN]}), 0, "1 packages looked up, 1 not known"),
        (json.dumps({"dependencies": [SOUND, BAD]}), 1, "bad 2: PYSEC-1, CVE-2026-1; fixed in 2.1"),
        (json.dumps({"dependencies": [UNKNOWN]}), 0, "NOT CHECKED"),
        ("", 0, "NOT CHECKED"),
        ("[]", 0, "NOT CHECKED"),
    ],
)
def test_only_a_known_vulnerability_fails(
    audit: Any, capsys: pytest.CaptureFixture[str], said: str, code: int, words: str
) -> None:
    assert audit.main((sys.executable, "-c", f"print({said!r})")) == code
    assert words in capsys.readouterr().out


def test_a_program_that_is_not_there_is_told(
    audit: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit.main(("no-such-program",)) == 0
    assert "NOT CHECKED" in capsys.readouterr().out


def test_lower_bounds_that_a_vulnerability_asks_for_are_named(checkout: Path) -> None:
    text = (checkout / "pyproject.toml").read_text(encoding="utf-8")
    lines = {line.split(">=")[0].strip(' "'): line for line in text.splitlines() if ">=" in line}
    page = (checkout / "docs" / "safety.md").read_text(encoding="utf-8")
    for package in ("openslide-bin", "pillow", "pyyaml", "torch"):
        assert "CVE-" in lines[package]
        bound = next(
            item for item in tomllib.loads(text)["project"]["dependencies"]
            if item.startswith(package)
        )  # fmt: skip
        row = next(row for row in page.splitlines() if row.startswith(f"| `{bound}`"))
        for word in lines[package].replace(",", " ").split():
            assert not word.startswith("CVE-") or word in row
