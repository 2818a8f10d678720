"""`napari-xt score` as a user calls it."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from support.slides import tissue_image, write_tiff_slide, write_tissue_slide

from xt_backend.store import ScoreMap

Call = Callable[..., Any]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "slides.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_slide_gives_all_files_of_the_contract(
    call: Call, tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    done = call("score", tissue_slide, "--model", tiny_model, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["counts"] == {"done": 1, "failed": 0, "empty": 0}
    assert "device: cpu" in done.stderr
    names = {path.name for path in out.iterdir()}
    assert names == {
        "slides.csv",
        "run.json",
        "local.json",
        "ledger",
        "block.run.h5",
        "block.regions.csv",
        "block.geojson",
        "block.overlay.png",
    }
    (row,) = rows(out)
    assert (row["slide"], row["id"], row["status"]) == ("block.tiff", "block", "done")
    assert row["n_regions"] == row["encoded_regions"] == "16"
    assert row["cache"] == "miss"
    assert float(row["slide_mpp"]) == pytest.approx(0.5)
    assert float(row["fraction_normal"]) + float(row["fraction_tumour"]) == pytest.approx(1)
    found = ScoreMap.load(out / "block.run.h5")
    assert not found.partial
    assert (out / "local.json").stat().st_mode & 0o777 == 0o600
    run_json = (out / "run.json").read_text()
    assert str(tmp_path) not in run_json
    assert str(tissue_slide.parent) not in run_json


def test_context_changes_the_prediction_and_off_is_the_region_only_head(
    call: Call, tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    for context in ("on", "off"):
        done = call(
            "score", tissue_slide, "--model", tiny_model, "--out", tmp_path / context,
            "--context", context, "--cache", tmp_path / "cache",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    on = ScoreMap.load(tmp_path / "on" / "block.run.h5")
    off = ScoreMap.load(tmp_path / "off" / "block.run.h5")
    np.testing.assert_array_equal(off.logits, off.region_only_logits)
    np.testing.assert_array_equal(on.region_only_logits, off.region_only_logits)
    assert not np.allclose(on.logits, off.logits)
    assert rows(tmp_path / "off")[0]["encoded_regions"] == "0"
    assert rows(tmp_path / "off")[0]["cache"] == "hit"


def test_every_input_gets_a_row_and_bad_ones_do_not_end_the_batch(
    call: Call, tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "slides"
    folder.mkdir()
    (folder / "a_good.tiff").write_bytes(tissue_slide.read_bytes())
    (folder / "b_empty.svs").write_bytes(b"")
    (folder / "c_text.svs").write_text("this is no slide")
    whole = tissue_slide.read_bytes()
    (folder / "d_cut.tiff").write_bytes(whole[: len(whole) // 2])
    write_tissue_slide(folder / "e_no_mpp.tiff", mpp=None)
    write_tissue_slide(folder / "f_coarse.tiff", mpp=2.0)
    write_tiff_slide(folder / "g_glass.tiff", tissue_image(1024, 1024, ()))
    write_tissue_slide(folder / "h_small.tiff", side=64)
    (folder / "notes.txt").write_text("not looked at")
    tifffile.imwrite(folder / "plain.tif", np.zeros((20, 20, 3), np.uint8))
    out = tmp_path / "run"
    done = call("score", folder, "--model", tiny_model, "--out", out, "--json")
    assert done.returncode == 3, done.stderr
    report = json.loads(done.stdout)
    assert report["counts"] == {"done": 2, "failed": 5, "empty": 1}
    (passed_over,) = report["passed_over"]
    assert passed_over["file"] == "plain.tif"
    assert "no slide" in passed_over["reason"]
    assert "Traceback" not in done.stderr
    table = {row["slide"]: row for row in rows(out)}
    assert [row["row"] for row in rows(out)] == [str(i) for i in range(8)]
    status = {name: row["status"] for name, row in table.items()}
    assert status == {
        "a_good.tiff": "done",
        "b_empty.svs": "failed",
        "c_text.svs": "failed",
        "d_cut.tiff": "failed",
        "e_no_mpp.tiff": "failed",
        "f_coarse.tiff": "failed",
        "g_glass.tiff": "empty",
        "h_small.tiff": "done",
    }
    assert "--slide-mpp" in table["e_no_mpp.tiff"]["reason"]
    assert "--allow-upsample" in table["f_coarse.tiff"]["reason"]
    reasons = {row["reason"] for row in table.values() if row["status"] == "failed"}
    assert len(reasons) == 5
    known = ("slide_mpp", "mpp_source", "width_px", "height_px")
    facts = {name: tuple(row[column] for column in known) for name, row in table.items()}
    assert facts["c_text.svs"] == ("", "", "", "")
    assert facts["e_no_mpp.tiff"] == ("", "", "1024", "1024")
    assert float(facts["f_coarse.tiff"][0]) == pytest.approx(2)
    assert facts["f_coarse.tiff"][1:] == ("openslide.mpp-x", "1024", "1024")
    assert facts["g_glass.tiff"][1:] == ("openslide.mpp-x", "1024", "1024")
    assert not any(str(tmp_path) in reason for reason in reasons)
    assert (out / "g_glass.regions.csv").read_text().count("\n") == 1


def test_the_way_out_that_a_failed_row_names_works(
    call: Call, tiny_model: Path, tmp_path: Path
) -> None:
    slide = write_tissue_slide(tmp_path / "bare.tiff", mpp=None)
    done = call(
        "score", slide, "--model", tiny_model, "--out", tmp_path / "run", "--slide-mpp", "0.5"
    )
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "run")[0]["mpp_source"] == "user"


def test_running_again_resumes_and_another_configuration_is_refused(
    call: Call, tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    arguments = ("score", tissue_slide, "--model", tiny_model, "--out", out)
    assert call(*arguments).returncode == 0
    before = (out / "block.run.h5").read_bytes()
    assert call(*arguments).returncode == 0
    assert rows(out)[0]["encoded_regions"] == "0"
    assert rows(out)[0]["status"] == "done"
    assert (out / "block.run.h5").read_bytes() == before
    refused = call(*arguments, "--stride", "32")
    assert refused.returncode == 2
    assert "stride_px" in refused.stderr
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("keep me")
    refused = call("score", tissue_slide, "--model", tiny_model, "--out", foreign)
    assert refused.returncode == 2
    assert "thesis.txt" in refused.stderr
    assert [path.name for path in foreign.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere.svs",), "nowhere.svs"),
        (("{slide}", "--slide-mpp", "-1"), "--slide-mpp"),
        (("{slide}", "--device", "gpu"), "device"),
        (("{slide}", "--context", "maybe"), "--context"),
        (("{slide}", "--roi", "missing.geojson"), "missing.geojson"),
        (("{slide}", "--config", "missing.yaml"), "missing.yaml"),
    ],
)
def test_bad_usage_is_refused_before_any_work(
    call: Call,
    tissue_slide: Path,
    tiny_model: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    filled = [part.replace("{slide}", str(tissue_slide)) for part in arguments]
    done = call("score", *filled, "--model", tiny_model, "--out", tmp_path / "run")
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("flag", ["--roi", "--tissue"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{nothing", "not valid JSON"),
        ('{"type": "FeatureCollection", "features": []}', "areas.geojson holds no area"),
        ('{"type": "Point", "coordinates": [5, 5]}', "areas.geojson holds no area"),
    ],
)
def test_areas_that_no_slide_can_use_are_refused_before_any_work(
    call: Call,
    tissue_slide: Path,
    tiny_model: Path,
    tmp_path: Path,
    flag: str,
    text: str,
    said: str,
) -> None:
    areas = tmp_path / "areas.geojson"
    areas.write_text(text, encoding="utf-8")
    out = tmp_path / "run"
    done = call("score", tissue_slide, "--model", tiny_model, "--out", out, flag, areas)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())
    assert not out.exists()


def test_a_region_of_interest_off_the_slide_is_told(
    call: Call, tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    roi = tmp_path / "far.geojson"
    ring = [[90_000, 0], [90_500, 0], [90_500, 500], [90_000, 0]]
    roi.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}), encoding="utf-8")
    out = tmp_path / "run"
    done = call("score", tissue_slide, "--model", tiny_model, "--out", out, "--roi", roi)
    assert done.returncode == 0
    assert rows(out)[0]["status"] == "empty"
    assert "outside the slide" in rows(out)[0]["reason"]


def test_a_file_that_is_no_model_is_refused(call: Call, tissue_slide: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "model.safetensors"
    wrong.write_text("not a model")
    done = call("score", tissue_slide, "--model", wrong, "--out", tmp_path / "run")
    assert done.returncode == 2
    assert "model.safetensors" in done.stderr
    done = call("score", tissue_slide, "--model", "no-such-model", "--out", tmp_path / "run")
    assert done.returncode == 2
    assert "no-such-model" in done.stderr


def test_a_manifest_gives_rows_with_their_own_pixel_size(
    call: Call, tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    write_tissue_slide(tmp_path / "bare.tiff", mpp=None)
    manifest = tmp_path / "list.csv"
    manifest.write_text(
        "slide,slide_mpp\n"
        f"{tissue_slide},\n"
        "bare.tiff,0.5\n"
        "bare.tiff,abc\n"
        "bare.tiff,99\n"
        "missing.svs,\n"
    )
    done = call("score", manifest, "--model", tiny_model, "--out", tmp_path / "run")
    assert done.returncode == 3, done.stderr
    table = rows(tmp_path / "run")
    assert [row["status"] for row in table] == ["done", "done", "failed", "failed", "failed"]
    assert len({row["id"] for row in table}) == 5
    assert "abc" in table[2]["reason"]
    assert "99" in table[3]["reason"]
    assert "missing.svs" in table[4]["reason"]
    assert [row["width_px"] for row in table] == ["1024", "1024", "1024", "1024", ""]


def test_a_slide_smaller_than_a_region_is_scored_with_a_warning(
    call: Call, tiny_model: Path, tmp_path: Path
) -> None:
    slide = write_tiff_slide(tmp_path / "tiny.tiff", tissue_image(16, 16, ((0, 0, 16, 16),)))
    arguments = ("score", slide, "--model", tiny_model, "--out", tmp_path / "run")
    done = call(*arguments)
    assert done.returncode == 0, done.stderr
    (row,) = rows(tmp_path / "run")
    assert (row["status"], row["n_regions"]) == ("done", "1")
    said = "the slide, 8 x 8 um, is smaller than a region of the model, 64 x 64 um: 98.4% of"
    assert row["reason"].startswith(said)
    assert "larger piece" in row["reason"]
    assert f"Warning: {said}" in done.stdout
    assert "1 done, 1 warning." in done.stdout
    # Also when the result was there already, and where only JSON is asked for.
    done = call(*arguments, "--json")
    assert f"Warning: tiny.tiff: {said}" in done.stderr
    assert json.loads(done.stdout)["slides"][0]["reason"] == row["reason"]
    assert said in call(*arguments[:-1], tmp_path / "dry", "--dry-run").stdout
    assert said in call("info", slide, "--model", tiny_model).stdout
    # One region and no more is no reason to warn.
    fitting = write_tiff_slide(tmp_path / "fits.tiff", tissue_image(128, 128, ((0, 0, 128, 128),)))
    done = call("score", fitting, "--model", tiny_model, "--out", tmp_path / "fits")
    assert rows(tmp_path / "fits")[0]["reason"] == ""


def test_fractions_are_shares_of_the_tissue_that_was_scored(
    call: Call, tiny_model: Path, tmp_path: Path
) -> None:
    # A whole region of tissue, and one of which a quarter is.
    image = tissue_image(640, 512, ((128, 128, 256, 256), (384, 256, 512, 288)))
    slide = write_tiff_slide(tmp_path / "two.tiff", image, levels=1)
    for tissue in ("auto", "all"):
        out = tmp_path / tissue
        done = call("score", slide, "--model", tiny_model, "--out", out, "--tissue", tissue)
        assert done.returncode == 0, done.stderr
        found = ScoreMap.load(out / "two.run.h5")
        labels, grid = found.labels(), found.grid(found.tissue, fill=0)
        if tissue == "all":
            assert (grid == 1).all()
        else:
            assert grid[1, 1] == pytest.approx(1, abs=1e-3)
            assert 0.2 < grid[2, 3] < 0.4
            assert grid[3, 0] == 0
        (row,) = rows(out)
        share = found.tissue[labels == 1].sum() / found.tissue.sum()
        assert float(row["fraction_tumour"]) == pytest.approx(share)


def test_results_that_do_not_know_the_tissue_are_made_anew(
    call: Call, tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    arguments = ("score", tissue_slide, "--model", tiny_model, "--out", out)
    assert call(*arguments).returncode == 0
    path = out / "block.run.h5"
    before = path.read_bytes()
    replace(ScoreMap.load(path), tissue=None).save(path)
    assert call(*arguments).returncode == 0
    assert path.read_bytes() == before


def test_dry_run_writes_nothing(
    call: Call, tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    done = call("score", tissue_slide, "--model", tiny_model, "--out", out, "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["slides"][0]["n_regions"] == 16
    assert not out.exists()


def test_a_dry_run_tells_time_and_space(
    call: Call, tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    arguments = ("score", tissue_slide, "--model", tiny_model, "--out", tmp_path / "run",
                 "--cache", tmp_path / "cache", "--encoder-backend", "torch")  # fmt: skip
    look = call(*arguments, "--dry-run", "--json")
    expected = json.loads(look.stdout)["expected"]
    assert (expected["n_slides"], expected["n_regions"], expected["n_encode"]) == (1, 16, 16)
    assert expected["rate_from"] == "measured now"
    assert expected["seconds"] > 16 / expected["regions_per_s"] > 0
    assert call(*arguments).returncode == 0
    written = sum(path.stat().st_size for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert written / 20 < expected["out"]["needed_bytes"] < written * 20
    stored = max(path.stat().st_size for path in (tmp_path / "cache").rglob("*.h5"))
    assert 0.5 < expected["cache"]["needed_bytes"] / stored <= 1.0
    again = call(*arguments, "--dry-run")
    assert "In all 1 slide with 16 regions, 0 to encode: about" in again.stdout
    assert "regions/s" not in again.stdout


def test_an_roi_limits_the_regions_and_a_wider_one_encodes_only_what_is_new(
    call: Call, tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    def square(name: str, x1_px: int) -> Path:
        ring = [[260, 260], [x1_px, 260], [x1_px, 380], [260, 380], [260, 260]]
        path = tmp_path / name
        path.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
        return path

    for name, x1_px in (("small", 380), ("wide", 640)):
        done = call(
            "score", tissue_slide, "--model", tiny_model, "--out", tmp_path / name,
            "--roi", square(f"{name}.geojson", x1_px), "--cache", tmp_path / "cache",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    (small,), (wide,) = rows(tmp_path / "small"), rows(tmp_path / "wide")
    assert (small["n_regions"], small["encoded_regions"]) == ("1", "1")
    assert (wide["n_regions"], wide["encoded_regions"], wide["cache"]) == ("3", "2", "partial")


def test_a_second_run_does_not_even_import_backbones(tissue_slide: Path, tmp_path: Path) -> None:
    """They take longer to import than all else that a run of stored regions does."""
    code = (
        "import sys; from pathlib import Path; import xt_backend as xt; "
        "run = xt.score(Path(sys.argv[1]), model='context-demo', out=sys.argv[2]); "
        "print(run.slides.encoded_regions[0], 'timm' in sys.modules)"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", code, tissue_slide, tmp_path / name],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for name in ("first", "second")
    ]
    assert int(found[0][0]) > 0
    assert found[0][1] == "True"
    assert found[1] == ["0", "False"]


def test_whether_a_slide_may_be_read_is_not_asked_before_its_turn(
    call: Call,
    tissue_slide: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that may not has its own row, tests/slides says so; it must not end the command."""
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: Path(path) != tissue_slide and access(path, mode)
    )
    done = call("score", tissue_slide, "--model", tiny_model, "--out", tmp_path, "--no-cache")
    assert done.returncode == 0, done.stderr
    assert call("info", tissue_slide).returncode == 0
