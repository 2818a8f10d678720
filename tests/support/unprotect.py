"""Does each test of a fault fail without its protection? The command ``scripts/unprotect``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from support.cases import ROOT, Case, read_cases


def _copy(folder: Path) -> None:
    for name in ("napari_xt", "src_backend", "tests", "pyproject.toml", "napari.yaml"):
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder / name)


def _test(folder: Path, *tests: str) -> tuple[bool, str]:
    """Whether tests pass in a copy, and what they said."""
    paths = [str(folder), str(folder / "src_backend")]
    done = subprocess.run(
        # However busy the machine is: that a test takes long is no sign that it noticed anything.
        [sys.executable, "-m", "pytest", *tests, "-x", "-q", "-p", "no:cacheprovider",
         "--timeout=0"],
        cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    if done.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(tests)} cannot be run:\n{done.stdout}{done.stderr}")
    lines = [line for line in done.stdout.splitlines() if line.startswith("E  ")]
    return done.returncode == 0, " ".join(lines[0].split())[:150] if lines else ""


def _applies(case: Case) -> bool:
    """Whether each text that is to be taken away stands in its file, once."""
    texts = {item.path: (ROOT / item.path).read_text("utf-8") for item in case.removals}
    return all(texts[item.path].count(item.old) == 1 for item in case.removals)


def _unprotected(folder: Path, case: Case) -> tuple[bool, str]:
    """Whether the test stays green without the protection, which is put back afterwards."""
    whole = {item.path: (folder / item.path).read_text("utf-8") for item in case.removals}
    try:
        for item in case.removals:
            path = folder / item.path
            path.write_text(path.read_text("utf-8").replace(item.old, item.new), "utf-8")
        return _test(folder, case.red)
    finally:
        for name, text in whole.items():
            (folder / name).write_text(text, "utf-8")


def main() -> None:
    """Take protections away; exit code 1 where a test did not notice."""
    wanted = {int(argument) for argument in sys.argv[1:]}
    unnoticed = []
    with tempfile.TemporaryDirectory(prefix="napari-xt-unprotect-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # some tests go on as another user
        _copy(folder)
        cases = [
            case for case in read_cases() if case.removals and (not wanted or case.number in wanted)
        ]
        if lost := [case.number for case in cases if not _applies(case)]:
            raise SystemExit(f"the protections of these cases are not where they were: {lost}")
        green, said = _test(folder, *{case.red: None for case in cases})
        if not green:
            raise SystemExit(f"a test fails although nothing was taken away: {said}")
        print(f"{len(cases)} tests pass with their protections", flush=True)
        for case in cases:
            green, said = _unprotected(folder, case)
            print(
                f"{case.number:>2}  {'GREEN' if green else 'red'}  {case.red}  {said}", flush=True
            )
            if green:
                unnoticed.append(case.number)
    if unnoticed:
        raise SystemExit(f"the tests of these cases notice nothing: {unnoticed}")


if __name__ == "__main__":
    main()
