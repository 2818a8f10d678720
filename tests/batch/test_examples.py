"""The examples of every public name are run, in a folder that holds one small slide."""

from __future__ import annotations

import doctest
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import xt_backend as xt

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture(scope="module")
def home(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``slide.tiff``, ``broken.svs`` and a ``cache``, which the examples share."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copy(checkout / "sample_slides" / "sample_5_0.tiff", folder / "slide.tiff")
    (folder / "broken.svs").write_bytes(b"no slide")
    return folder


@pytest.fixture(autouse=True)
def _at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setenv("NAPARI_XT_CACHE", str(home / "cache"))


def run_examples(name: str, thing: object) -> int:
    """Run the examples of one docstring.

    Returns:
        How many there are.
    """
    found = doctest.DocTestParser().get_doctest(thing.__doc__ or "", {}, name, None, None)
    said: list[str] = []
    outcome = doctest.DocTestRunner(optionflags=FLAGS).run(found, out=said.append)
    assert outcome.failed == 0, "".join(said)
    return len(found.examples)


@pytest.mark.parametrize("name", xt.__all__)
def test_the_example_does_what_it_says(name: str) -> None:
    assert run_examples(name, getattr(xt, name)) >= 2


def test_the_example_of_the_package_does_what_it_says() -> None:
    assert run_examples("xt_backend", xt) >= 3


def test_a_wrong_example_would_be_seen() -> None:
    def wrong() -> None:
        """
        >>> 1 + 1
        3
        """

    with pytest.raises(AssertionError, match="Expected"):
        run_examples("wrong", wrong)


SCRIPT = """
import xt_backend as xt
run = xt.score("slide.tiff", model="context-demo", out="unguarded", workers=3)
print(len(run.regions), *run.slides["status"])
with xt.Backend(process=True) as backend:
    spec = xt.RunSpec(slide="slide.tiff", model="context-demo", workers=3)
    print(type(list(backend.submit(spec))[-1]).__name__)
"""


def test_an_unguarded_script_uses_workers_and_processes(home: Path) -> None:
    script = home / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["230", "done", "RunFinished"]
