"""What is wrong is found before any work, told by the exit code, and tells no folder."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from support.annotations import write_roi
from support.cli import Call, rows

from xt_backend.engine import Stages
from xt_backend.engine.blocks import StoreWriter
from xt_backend.errors import NoSpaceError, UsageError
from xt_backend.slides import open_slide
from xt_backend.store import RegionStore, StoreKey

FEATURES = ("--encoder", "tf_efficientnet_lite0", "--weights", "random", "--model-mpp", "1.0",
            "--region-px", "64")  # fmt: skip


@pytest.mark.parametrize("command", ["score", "features"])
def test_a_folder_as_roi_fails_its_row_without_being_named(
    call: Call, command: str, tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "DOE^JOHN"
    (folder / "areas").mkdir(parents=True)
    manifest = folder / "list.csv"
    manifest.write_text(f"slide,roi\n{tissue_slide},areas\n")
    more = FEATURES if command == "features" else ("--model", tiny_model)
    done = call(command, manifest, *more, "--out", tmp_path / "run")
    assert done.returncode == 3, done.stderr
    (row,) = rows(tmp_path / "run")
    assert "The ROI areas is no file" in row["reason"]
    assert "DOE" not in (tmp_path / "run" / "slides.csv").read_text()


def test_no_folder_of_any_file_comes_into_a_row(
    call: Call,
    tissue_slide: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "DOE^JOHN"
    folder.mkdir()
    roi = write_roi(folder / "roi.geojson", (0, 0, 1024, 1024))
    work = tmp_path / "ROE^JANE"
    work.mkdir()
    monkeypatch.chdir(work)

    def explode(*args: object) -> None:
        raise RuntimeError(f"cannot use {roi}, {tiny_model} and {work / 'x'}")

    monkeypatch.setattr("xt_backend.batch.task.write_overlay", explode)
    done = call("score", tissue_slide, "--model", tiny_model, "--roi", roi, "--out", "run")
    assert done.returncode == 3, done.stderr
    (row,) = rows(work / "run")
    assert f"cannot use roi.geojson, {tiny_model.name} and x." in row["reason"]


def test_features_that_are_no_numbers_are_not_stored(tmp_path: Path) -> None:
    store = RegionStore.open(tmp_path, StoreKey("slide", {}, {}))
    cells = np.array([[0, 0], [1, 0], [2, 0]], np.int32)
    features = np.ones((3, 1, 4), np.float16)
    features[0, 0, 1], features[2, 0, 3] = np.nan, np.inf
    with StoreWriter(store, Stages()) as writer:
        writer.add(cells, features, np.zeros(3, np.uint8))
    assert store.load(cells)[2].tolist() == [False, True, False]


def test_features_that_are_no_numbers_are_told_and_tried_again(
    call: Call, tissue_slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xt_backend.model import RegionEncoder

    real = RegionEncoder.forward

    def broken(self: RegionEncoder, images: torch.Tensor) -> torch.Tensor:
        tokens = real(self, images).clone()
        tokens[0] = torch.nan
        return tokens

    monkeypatch.setattr(RegionEncoder, "forward", broken)
    arguments = ("features", tissue_slide, *FEATURES, "--batch-size", "16")
    done = call(*arguments, "--out", tmp_path / "run")
    assert done.returncode == 3, done.stderr
    (row,) = rows(tmp_path / "run")
    with h5py.File(tmp_path / "run" / "block.features.h5") as file:
        bad = ~np.isfinite(file["features"][:]).reshape(16, -1).all(axis=1)
    assert row["reason"] == f"{bad.sum()} regions have no number (NaN)"
    monkeypatch.setattr(RegionEncoder, "forward", real)
    assert call(*arguments, "--out", tmp_path / "again").returncode == 0
    assert rows(tmp_path / "again")[0]["encoded_regions"] == str(bad.sum())


def test_a_dry_run_tells_by_its_exit_code_that_a_slide_would_fail(
    call: Call, tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.svs"
    bad.write_text("no slide")
    arguments = ("--model", tiny_model, "--out", tmp_path / "run", "--dry-run")
    done = call("score", tissue_slide, bad, *arguments)
    assert done.returncode == 3, done.stderr
    assert "bad.svs: cannot be scored" in done.stdout
    assert call("score", tissue_slide, *arguments).returncode == 0


@pytest.mark.parametrize("command", ["score", "features"])
def test_a_wrong_wish_for_a_reader_is_bad_usage(
    call: Call,
    command: str,
    tissue_slide: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NAPARI_XT_READER", "quick")
    more = FEATURES if command == "features" else ("--model", tiny_model)
    done = call(command, tissue_slide, *more, "--out", tmp_path / "run")
    assert done.returncode == 2, done.stderr
    assert "NAPARI_XT_READER is 'quick'" in done.stderr
    assert not (tmp_path / "run").exists()


def test_what_fails_while_a_slide_is_opened_closes_it(
    tissue_slide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xt_backend.slides import slide as module

    opened = []
    real = module.open_handle

    def watching(path: Path) -> object:
        found = real(path)
        opened.append(found[0])
        return found

    closed = []
    monkeypatch.setattr(module, "open_handle", watching)
    monkeypatch.setattr(module, "read_info", lambda *args: 1 / 0)
    close = type(real(tissue_slide)[0]).close
    monkeypatch.setattr(
        type(real(tissue_slide)[0]), "close", lambda self: (closed.append(self), close(self))
    )
    with pytest.raises(ZeroDivisionError):
        open_slide(tissue_slide)
    assert closed == opened
    monkeypatch.setenv("NAPARI_XT_READER", "quick")
    with pytest.raises(UsageError, match="quick"):
        open_slide(tissue_slide)
    assert len(opened) == 1


def test_a_full_disk_is_called_so_when_an_output_folder_is_made(
    call: Call,
    tissue_slide: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import errno

    from xt_backend.batch import Batch
    from xt_backend.config import ScoreOptions
    from xt_backend.training.evaluation_files import prepare_folder

    def full(self: Path, *args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(NoSpaceError):
        Batch([tissue_slide], str(tiny_model), tmp_path / "run", ScoreOptions())
    with pytest.raises(NoSpaceError):
        prepare_folder(tmp_path / "numbers")
