"""Whatever is read may be damaged or ill meant: it is read or refused, and nothing else."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from support.fuzzing import Fuzzer, write_seeds

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "seeds"
    write_seeds(folder)
    return folder


def test_no_damage_ends_the_process(seeds: Path, tmp_path: Path) -> None:
    fuzzer = Fuzzer(seeds, tmp_path / "kept")
    fuzzer.run((), 40)
    found = fuzzer.found
    assert found.faults == []
    assert len(found.by_kind) == 11
    # It is damage, and some of it does no harm.
    assert found.counts["refused"] > found.counts["read"] > 20


READER = """
import os, sys
print("ready", flush=True)
for line in sys.stdin:
    how = open(line.rstrip().split("\\t")[1]).read()
    if how == "dies":
        os.abort()
    if how == "hangs":
        while True:
            pass
    print(how, flush=True)
"""


def test_a_death_a_hang_and_an_error_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "reader_of_faults.py").write_text(READER)
    before = os.environ.get("PYTHONPATH")
    paths = [str(tmp_path), *([before] if before else [])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    (tmp_path / "seeds" / "store").mkdir(parents=True)
    for name, how in (("a", "dies"), ("b", "read"), ("c", "hangs"), ("d", "unexpected KeyError")):
        (tmp_path / "seeds" / "store" / f"{name}.h5").write_text(how)
    fuzzer = Fuzzer(tmp_path / "seeds", tmp_path / "kept", hang_s=1, reader="reader_of_faults")
    fuzzer.run(("store",), 0)
    first, second, third = fuzzer.found.faults
    assert "signal 6" in first
    assert "hang" in second
    assert "unexpected KeyError" in third
    assert fuzzer.found.counts["read"] == 1
    kept = sorted((tmp_path / "kept").iterdir())
    assert [path.read_text() for path in kept] == ["dies", "hangs", "unexpected KeyError"]
