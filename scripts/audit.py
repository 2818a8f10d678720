"""Installed packages with known vulnerabilities, by pip-audit; part of scripts/check.

Where the list of vulnerabilities cannot be reached, or knows none at all, that is said and is no
failure, but no success either: nothing about the code is wrong then, and nothing was looked at.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

COMMAND = (str(Path(sys.executable).with_name("pip-audit")),)
PATIENCE_S = 300

NOT_CHECKED = 75
"""Exit code that scripts/check knows: nothing was looked at."""

VULNERABLE = "pyyaml==5.3.1"
"""Known as such since 2020 (CVE-2020-14343): a list that says nothing of it says nothing at all."""

_NAMED = 5


class NoAnswer(Exception):
    """pip-audit gave none."""


def main(command: tuple[str, ...] = COMMAND) -> int:
    """Exit code: 1 where a package has a known vulnerability, `NOT_CHECKED` where nobody knows.

    Args:
        command: pip-audit.
    """
    try:
        packages = asked(command, "--skip-editable")
        known = [package for package in packages if "vulns" in package]
        bad = [package for package in known if package["vulns"]]
        if not known:
            return not_checked("the index knows none of the packages")
        if not bad and not knows_vulnerabilities(command):
            return not_checked(f"the index tells of no vulnerability, not even of {VULNERABLE}")
    except NoAnswer as error:
        return not_checked(str(error))
    for package in bad:
        for found in package["vulns"]:
            fixed = ", ".join(found.get("fix_versions", [])) or "no version yet"
            names = ", ".join([found["id"], *found.get("aliases", [])])
            print(f"{package['name']} {package['version']}: {names}; fixed in {fixed}")
    print(f"{len(known)} packages looked up")
    if unknown := sorted(package["name"] for package in packages if "vulns" not in package):
        more = ", ..." if len(unknown) > _NAMED else ""
        print(f"{len(unknown)} NOT CHECKED, not known to the index: "
              f"{', '.join(unknown[:_NAMED])}{more}")  # fmt: skip
    return 1 if bad else 0


def asked(command: tuple[str, ...], *options: str) -> list[dict[str, Any]]:
    """What pip-audit says of packages.

    Raises:
        NoAnswer: It says nothing that can be read.
    """
    always = ("--format", "json", "--progress-spinner", "off")
    try:
        done = subprocess.run(
            [*command, *always, *options],
            capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoAnswer(str(error)) from error
    try:
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError) as error:
        said = done.stderr.strip().splitlines() or ["pip-audit said nothing"]
        raise NoAnswer(said[-1]) from error
    return packages


def knows_vulnerabilities(command: tuple[str, ...]) -> bool:
    """Whether the list that is asked holds anything: some indexes answer, and know of nothing.

    Raises:
        NoAnswer: As of `asked`.
    """
    with tempfile.TemporaryDirectory(prefix="napari-xt-audit-") as folder:
        named = Path(folder, "vulnerable.txt")
        named.write_text(f"{VULNERABLE}\n", encoding="utf-8")
        packages = asked(command, "--requirement", str(named), "--no-deps", "--disable-pip")
    return any(package.get("vulns") for package in packages)


def not_checked(why: str) -> int:
    """Say that nothing was looked at."""
    print(f"NOT CHECKED, the list of vulnerabilities cannot be had: {why}")
    return NOT_CHECKED


if __name__ == "__main__":
    sys.exit(main())
