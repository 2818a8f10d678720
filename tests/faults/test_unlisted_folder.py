"""A folder among the inputs that cannot be looked into."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.cli import Call, rows


@pytest.fixture
def slides(tissue_slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A slide beside a folder with a telling name that may not be listed, not even by root."""
    folder = tmp_path / "slides"
    (folder / "DOE^JOHN").mkdir(parents=True)
    (folder / "a.tiff").write_bytes(tissue_slide.read_bytes())
    iterdir = Path.iterdir

    def failing(self: Path) -> object:
        if self.name == "DOE^JOHN":
            raise PermissionError(13, "Permission denied")
        return iterdir(self)

    monkeypatch.setattr(Path, "iterdir", failing)
    return folder


def test_it_has_a_failed_row_that_does_not_name_it(
    call: Call, slides: Path, tiny_model: Path, tmp_path: Path
) -> None:
    done = call("score", slides, "--model", tiny_model, "--out", tmp_path / "run")
    assert done.returncode == 3, done.stderr
    first, second = rows(tmp_path / "run")
    assert (first["slide"], first["status"]) == ("a.tiff", "done")
    assert (second["slide"], second["status"]) == ("(folder)", "failed")
    assert "Permission denied" in second["reason"]
    for path in (tmp_path / "run").rglob("*"):
        if path.is_file() and path.name != "local.json":
            assert b"DOE" not in path.read_bytes(), path.name
    assert "DOE^JOHN" in (tmp_path / "run" / "local.json").read_text()


def test_one_that_was_named_is_bad_usage(
    call: Call, slides: Path, tiny_model: Path, tmp_path: Path
) -> None:
    closed = slides / "DOE^JOHN"
    done = call("score", closed, "--model", tiny_model, "--out", tmp_path / "run")
    assert done.returncode == 2
    assert "Permission denied" in done.stderr
    assert not (tmp_path / "run").exists()
