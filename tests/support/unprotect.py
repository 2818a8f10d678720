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


def _test(folder: Path, test: str) -> tuple[bool, str]:
    """Whether a test passes in a copy, and what it said."""
    paths = [str(folder), str(folder / "src_backend")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", test, "-x", "-q", "-p", "no:cacheprovider"],
        cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    if done.returncode not in (0, 1):
        raise SystemExit(f"{test} cannot be run:\n{done.stdout}{done.stderr}")
    lines = [line for line in done.stdout.splitlines() if line.startswith("E  ")]
    return done.returncode == 0, " ".join(lines[0].split())[:150] if lines else ""


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
        for case in read_cases():
            if not case.removals or (wanted and case.number not in wanted):
                continue
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
