"""Installed packages with known vulnerabilities, by pip-audit; part of scripts/check.

Where the list of vulnerabilities cannot be reached, that is said and no failure: nothing about the
code is wrong then.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

COMMAND = (str(Path(sys.executable).with_name("pip-audit")),)
PATIENCE_S = 300


def main(command: tuple[str, ...] = COMMAND) -> int:
    """Exit code: 1 where a package has a known vulnerability.

    Args:
        command: pip-audit.
    """
    options = ("--format", "json", "--progress-spinner", "off", "--skip-editable")
    try:
        done = subprocess.run(
            [*command, *options], capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return _not_checked(str(error))
    try:
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        said = done.stderr.strip().splitlines() or ["pip-audit said nothing"]
        return _not_checked(said[-1])
    known = [package for package in packages if "vulns" in package]
    if not known:
        return _not_checked("the index knows none of the packages")
    bad = [package for package in known if package["vulns"]]
    for package in bad:
        for found in package["vulns"]:
            fixed = ", ".join(found.get("fix_versions", [])) or "no version yet"
            names = ", ".join([found["id"], *found.get("aliases", [])])
            print(f"{package['name']} {package['version']}: {names}; fixed in {fixed}")
    print(f"{len(known)} packages looked up, {len(packages) - len(known)} not known to the index")
    return 1 if bad else 0


def _not_checked(why: str) -> int:
    print(f"NOT CHECKED, the list of vulnerabilities cannot be had: {why}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
