"""A run directory that is used again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.cli import Call, rows
from support.slides import write_tissue_slide


@pytest.fixture
def slides(tissue_slide: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "slides"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.tiff").write_bytes(tissue_slide.read_bytes())
    return folder


def test_other_inputs_are_refused_and_more_are_taken(
    call: Call, slides: Path, tiny_model: Path, tmp_path: Path
) -> None:
    more = ("--model", tiny_model, "--out", tmp_path / "run")
    assert call("score", slides / "a.tiff", *more).returncode == 0
    refused = call("score", slides / "b.tiff", *more)
    assert refused.returncode == 2
    assert "holds the result of a" in refused.stderr
    assert [row["slide"] for row in rows(tmp_path / "run")] == ["a.tiff"]
    assert not (tmp_path / "run" / "b.run.h5").exists()
    assert call("score", slides, *more).returncode == 0
    assert [row["slide"] for row in rows(tmp_path / "run")] == ["a.tiff", "b.tiff"]
    assert rows(tmp_path / "run")[0]["encoded_regions"] == "0"


def test_a_slide_that_fails_now_keeps_no_files_and_is_not_exported(
    call: Call, slides: Path, tiny_model: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    arguments = ("score", slides, "--model", tiny_model, "--out", run)
    assert call(*arguments).returncode == 0
    (slides / "a.tiff").write_bytes(b"")
    assert call(*arguments).returncode == 3
    assert [row["status"] for row in rows(run)] == ["failed", "done"]
    assert not list(run.glob("a.*"))
    assert (run / "b.run.h5").is_file()
    done = call("export", run, "--to", "parquet", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"written": ["b.regions.parquet"], "failed": {}}
    write_tissue_slide(slides / "a.tiff")
    assert call(*arguments).returncode == 0
    assert (run / "a.run.h5").is_file()


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_export_goes_on_past_a_damaged_map(
    call: Call, slides: Path, tiny_model: Path, tmp_path: Path, damage: str
) -> None:
    run = tmp_path / "run"
    assert call("score", slides, "--model", tiny_model, "--out", run).returncode == 0
    if damage == "cut":
        whole = (run / "a.run.h5").read_bytes()
        (run / "a.run.h5").write_bytes(whole[: len(whole) // 2])
    else:
        (run / "a.run.h5").unlink()
    done = call("export", run, "--to", "wsinfer", "--out", tmp_path / "csv", "--json")
    assert done.returncode == 3, done.stderr
    report = json.loads(done.stdout)
    csv, metadata = report["written"]
    assert csv == "model-outputs-csv/b.csv"
    assert metadata.startswith("run_metadata_")
    assert "a.run.h5" in report["failed"]["a"]
    assert (tmp_path / "csv" / "model-outputs-csv" / "b.csv").is_file()


def test_a_dry_run_looks_at_the_folder_and_leaves_it_alone(
    call: Call, slides: Path, tiny_model: Path, tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("keep me")
    done = call("score", slides, "--model", tiny_model, "--out", foreign, "--dry-run")
    assert done.returncode == 2
    assert "thesis.txt" in done.stderr
    assert [path.name for path in foreign.iterdir()] == ["thesis.txt"]


def test_a_dry_run_loads_the_model_once(
    call: Call, slides: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xt_backend.engine import loaded

    paths = []
    load = loaded.load_model

    def counting(path: Path, **options: object) -> object:
        paths.append(path)
        return load(path, **options)

    monkeypatch.setattr(loaded, "load_model", counting)
    arguments = ("score", slides, "--model", tiny_model, "--out", tmp_path / "run", "--dry-run")
    done = call(*arguments, "--json")
    assert [row["n_regions"] for row in json.loads(done.stdout)["slides"]] == [16, 16]
    assert len(paths) == 1


@pytest.mark.parametrize("command", ["score", "features"])
def test_a_stride_beyond_the_region_is_refused_before_any_work(
    call: Call, command: str, slides: Path, tiny_model: Path, tmp_path: Path
) -> None:
    features = (
        "--encoder", "tf_efficientnet_lite0", "--weights", "random", "--region-px", "64",
        "--model-mpp", "1.0",
    )  # fmt: skip
    more = features if command == "features" else ("--model", tiny_model)
    arguments = (command, slides / "a.tiff", *more, "--out", tmp_path / "run")
    done = call(*arguments, "--stride", "65")
    assert done.returncode == 2
    assert "--stride" in done.stderr
    assert "64" in done.stderr
    assert not (tmp_path / "run").exists()
    assert call(*arguments, "--stride", "64").returncode == 0


def test_a_pixel_size_that_the_model_was_not_trained_at_is_refused(
    call: Call, slides: Path, tiny_model: Path, tmp_path: Path
) -> None:
    arguments = ("score", slides / "a.tiff", "--model", tiny_model, "--out", tmp_path / "run")
    done = call(*arguments, "--model-mpp", "0.5")
    assert done.returncode == 2
    assert "--model-mpp" in done.stderr
    assert not (tmp_path / "run").exists()
    assert call(*arguments, "--model-mpp", "1.0").returncode == 0
