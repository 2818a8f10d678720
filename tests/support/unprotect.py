"""Does each test of a fault fail without its protection? The command ``scripts/unprotect``."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from support.cases import ROOT, Case, read_cases, without_protection


def _copy(folder: Path) -> None:
    for name in ("napari_xt", "src_backend", "tests", "pyproject.toml", "napari.yaml"):
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder / name)


def _test(folder: Path, *tests: str) -> tuple[bool, str]:
    """Whether tests pass in a copy, and why one failed or was skipped."""
    paths = [str(folder), str(folder / "src_backend")]
    done = subprocess.run(
        # However busy the machine is: that a test takes long is no sign that it noticed anything.
        [sys.executable, "-m", "pytest", *tests, "-x", "-q", "-rs", "-p", "no:cacheprovider",
         "--timeout=0"],
        cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    if done.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(tests)} cannot be run:\n{done.stdout}{done.stderr}")
    told = "E  " if done.returncode else "SKIPPED"
    lines = [line for line in done.stdout.splitlines() if line.startswith(told)]
    return done.returncode == 0, " ".join(lines[0].split())[:150] if lines else ""


def _unprotected(folder: Path, case: Case) -> tuple[bool, str]:
    """Whether the test stays green without the protection, which is put back afterwards."""
    changed = without_protection(case, folder)
    whole = {name: (folder / name).read_text("utf-8") for name in changed}
    try:
        for name, text in changed.items():
            (folder / name).write_text(text, "utf-8")
        return _test(folder, case.red)
    finally:
        for name, text in whole.items():
            (folder / name).write_text(text, "utf-8")


def _applied(cases: Sequence[Case]) -> None:
    """See that each protection stands where it is to be taken away."""
    lost = []
    for case in cases:
        try:
            without_protection(case)
        except ValueError as error:
            lost.append(str(error))
    if lost:
        raise SystemExit("\n".join(lost))


def _take_away(folder: Path, cases: Sequence[Case]) -> list[int]:
    """The cases whose tests do not notice."""
    began = time.monotonic()
    # Of a test with parameters that fails without its protection one is enough, here all pass.
    green, said = _test(folder, *{case.red: None for case in cases})
    if not green:
        raise SystemExit(f"a test fails although nothing was taken away: {said}")
    took = time.monotonic() - began
    print(f"{len(cases)} tests pass with their protections, in {took:.0f} s", flush=True)
    unnoticed = []
    for case in cases:
        green, said = _unprotected(folder, case)
        found = "red" if not green else "SKIPPED" if said else "GREEN"
        print(f"{case.number:>2}  {found}  {case.red}  {said}", flush=True)
        if green:
            unnoticed.append(case.number)
    return unnoticed


def main() -> None:
    """Take protections away; exit code 1 where a test did not notice."""
    parser = argparse.ArgumentParser(prog="scripts/unprotect", description=__doc__)
    parser.add_argument("cases", nargs="*", type=int, help="Numbers of cases; all by default.")
    parser.add_argument("--dry", action="store_true", help="Only see that each can be taken away.")
    asked = parser.parse_args()
    cases = [case for case in read_cases() if not asked.cases or case.number in asked.cases]
    _applied(cases)
    print(f"{len(cases)} protections stand where they can be taken away", flush=True)
    if asked.dry:
        return
    with tempfile.TemporaryDirectory(prefix="napari-xt-unprotect-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # some tests go on as another user
        _copy(folder)
        unnoticed = _take_away(folder, cases)
    if unnoticed:
        raise SystemExit(f"the tests of these cases notice nothing: {unnoticed}")


if __name__ == "__main__":
    main()
