"""What scripts/check says of packages with known vulnerabilities."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

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


FAKE = """
import sys
about_one = "--requirement" in sys.argv
print({of_one!r} if about_one else {of_all!r})
"""
KNOWS, KNOWS_NOTHING = ({"dependencies": [one]} for one in (BAD, SOUND))


def fake(of_all: str, of_one: Any = KNOWS) -> tuple[str, ...]:
    """A pip-audit that says something of what is installed, and of what is vulnerable for sure."""
    return sys.executable, "-c", FAKE.format(of_all=of_all, of_one=json.dumps(of_one))


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        ([SOUND], 0, "1 packages looked up"),
        ([SOUND, UNKNOWN], 0, "1 NOT CHECKED, not known to the index: unknown"),
        ([SOUND, BAD], 1, "bad 2: PYSEC-1, CVE-2026-1; fixed in 2.1"),
    ],
)
def test_only_a_known_vulnerability_fails(
    audit: Any, capsys: pytest.CaptureFixture[str], said: list[Any], code: int, words: str
) -> None:
    assert audit.main(fake(json.dumps({"dependencies": said}))) == code
    assert words in capsys.readouterr().out


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (json.dumps({"dependencies": [UNKNOWN]}), "the index knows none of the packages"),
        ("", "pip-audit said nothing"),
        ("[]", "pip-audit said nothing"),
    ],
)
def test_no_list_is_no_success(
    audit: Any, capsys: pytest.CaptureFixture[str], said: str, words: str
) -> None:
    assert audit.main(fake(said)) == audit.NOT_CHECKED
    assert f"NOT CHECKED, the list of vulnerabilities cannot be had: {words}" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize("of_one", [KNOWS_NOTHING, {"dependencies": [UNKNOWN]}, {}])
def test_a_list_that_knows_of_nothing_is_no_success(
    audit: Any, capsys: pytest.CaptureFixture[str], of_one: Any
) -> None:
    assert audit.main(fake(json.dumps({"dependencies": [SOUND]}), of_one)) == audit.NOT_CHECKED
    assert "NOT CHECKED" in capsys.readouterr().out


def test_a_program_that_is_not_there_is_told(
    audit: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit.main(("no-such-program",)) == audit.NOT_CHECKED
    assert "NOT CHECKED" in capsys.readouterr().out


def test_the_check_tells_at_its_end_that_nobody_looked(audit: Any, checkout: Path) -> None:
    """Its own steps and its end, with one that is good and one that nobody could do."""
    text = (checkout / "scripts" / "check").read_text(encoding="utf-8")
    steps = text[text.index("failed=()") : text.index("max_lines=")]
    end = text[text.rindex("echo\nif [ ${#failed") :]

    def ended(*codes: int) -> tuple[int, str]:
        asked = "".join(f"step 'number {code}' bash -c 'exit {code}'\n" for code in codes)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", steps + asked + end],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, (done.stdout + done.stderr).splitlines()[-1]

    unknown = audit.NOT_CHECKED
    assert ended(0) == (0, "check: all good")
    assert ended(0, unknown) == (
        0,
        f"check: all good that could be checked; NOT CHECKED: number {unknown}",
    )
    assert ended(unknown, 1) == (1, "check: failed: number 1")


FIXED = {"openslide-bin": "4.0.1", "pillow": "13", "pyyaml": "5.4", "torch": "2.10"}
"""The first version of each in which nothing that the documentation names is open any more."""


def test_no_version_with_a_known_hole_can_be_installed(checkout: Path) -> None:
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {one.name: one for one in map(Requirement, project["dependencies"])}
    for package, fixed in FIXED.items():
        (bound,) = needed[package].specifier
        assert bound.operator == ">="
        assert Version(bound.version) >= Version(fixed), package
        assert needed[package].specifier.contains(version(package)), "what is installed here"
    page = (checkout / "docs" / "safety.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| `([\w-]+)>=", page, re.MULTILINE)
    assert sorted(shown) == sorted(FIXED)


def test_lower_bounds_that_a_vulnerability_asks_for_are_named(checkout: Path) -> None:
    text = (checkout / "pyproject.toml").read_text(encoding="utf-8")
    lines = {line.split(">=")[0].strip(' "'): line for line in text.splitlines() if ">=" in line}
    page = (checkout / "docs" / "safety.md").read_text(encoding="utf-8")
    for package in FIXED:
        assert "CVE-" in lines[package]
        bound = next(
            item for item in tomllib.loads(text)["project"]["dependencies"]
            if item.startswith(package)
        )  # fmt: skip
        row = next(row for row in page.splitlines() if row.startswith(f"| `{bound}`"))
        for word in lines[package].replace(",", " ").split():
            assert not word.startswith("CVE-") or word in row
