"""Slides that are damaged, odd, changing or not ours to touch."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import struct
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from support.cli import Call, rows
from support.commands import Command
from support.jpeg_slides import place_of_tile, rewrite, write_jpeg_slide
from support.slides import tissue_image, write_tiff_slide, write_tissue_slide

from xt_backend import score
from xt_backend.config import ScoreOptions
from xt_backend.engine.preparation import prepare
from xt_backend.errors import SlideOpenError, UnsupportedSlideError
from xt_backend.keys import RegionStatus
from xt_backend.model import XT
from xt_backend.slides import open_slide
from xt_backend.store import ScoreMap

ALL = ((0, 0, 512, 512),)


def jpeg_slide(path: Path) -> Path:
    """512 x 512 px at 0.5 um/px, all tissue, tiles of 32 px: 16 regions of the tiny model."""
    image = tissue_image(512, 512, ALL)
    return write_jpeg_slide(path, [image, image[::4, ::4]], mpp=0.5, tile=32)


def test_case_06_another_slide_of_the_same_name_is_not_reused(
    call: Call, tiny_model: Path, tmp_path: Path
) -> None:
    slide = write_tiff_slide(tmp_path / "a.tiff", tissue_image(512, 512, ALL, 1))
    more = ("--model", tiny_model, "--cache", tmp_path / "cache", "--tissue", "all")
    assert call("score", slide, *more, "--out", tmp_path / "run").returncode == 0
    first = (tmp_path / "run" / "a.regions.csv").read_bytes()
    write_tiff_slide(slide, tissue_image(512, 512, ALL, 2))
    assert call("score", slide, *more, "--out", tmp_path / "run").returncode == 0
    (row,) = rows(tmp_path / "run")
    assert (row["cache"], row["encoded_regions"]) == ("miss", "16")
    assert (tmp_path / "run" / "a.regions.csv").read_bytes() != first


def test_case_10_one_undecodable_tile(call: Call, tiny_model: Path, tmp_path: Path) -> None:
    clean = jpeg_slide(tmp_path / "clean.tiff")
    bad = jpeg_slide(tmp_path / "bad.tiff")
    # It lies in the region (2, 1) alone, away from its border.
    offset, size = place_of_tile(bad, 9, 5)
    rewrite(bad, offset, bytes(size))
    out = tmp_path / "run"
    command = ("score", clean, bad, "--model", tiny_model, "--tissue", "all", "--workers", "0")
    done = call(*command, "--out", out, "--max-failed-fraction", "0.1")
    assert done.returncode == 0, done.stderr
    first, second = rows(out)
    assert (first["status"], second["status"]) == ("done", "done"), second["reason"]
    assert (first["n_failed_regions"], second["n_failed_regions"]) == ("0", "1")
    assert second["reason"] == "1 region could not be read"
    whole, holed = (ScoreMap.load(out / f"{name}.run.h5") for name in ("clean", "bad"))
    failed = holed.status == RegionStatus.READ_ERROR
    assert holed.cells[failed].tolist() == [[2, 1]]
    assert np.isnan(holed.probabilities[failed]).all()
    # Each region's own prediction; the others' context does know that one of them is missing.
    np.testing.assert_array_equal(
        holed.region_only_logits[~failed], whole.region_only_logits[~failed]
    )
    with (out / "bad.regions.csv").open(newline="") as file:
        (row,) = [row for row in csv.DictReader(file) if row["status"] == "read_error"]
    assert row["prob_normal"] in ("", "nan", "NaN")
    strict = call(*command, "--out", tmp_path / "strict", "--max-failed-fraction", "0.05")
    assert strict.returncode == 3
    assert [row["status"] for row in rows(tmp_path / "strict")] == ["done", "failed"]
    assert "--max-failed-fraction" in rows(tmp_path / "strict")[1]["reason"]


@pytest.mark.parametrize("mpp", ["0", "-1", "nan", "inf", "0.01", "6"])
def test_case_11_a_senseless_pixel_size_fails_its_row(
    call: Call, tissue_slide: Path, tiny_model: Path, tmp_path: Path, mpp: str
) -> None:
    (tmp_path / "list.csv").write_text(f"slide,slide_mpp\n{tissue_slide},{mpp}\n")
    out = tmp_path / "run"
    done = call("score", tmp_path / "list.csv", "--model", tiny_model, "--out", out)
    assert done.returncode == 3, done.stderr
    (row,) = rows(out)
    assert row["status"] == "failed"
    assert "manifest" in row["reason"] or "0.05" in row["reason"]
    by_flag = call("score", tissue_slide, "--model", tiny_model, "--out", tmp_path / "other",
                   "--slide-mpp", mpp)  # fmt: skip
    assert by_flag.returncode == 2
    assert not (tmp_path / "other").exists()


def test_case_12_slides_with_next_to_nothing(call: Call, tiny_model: Path, tmp_path: Path) -> None:
    pink = (214, 130, 180)
    slides = {
        "small": np.full((40, 40, 3), pink, np.uint8),
        "thin": np.full((20000, 1, 3), pink, np.uint8),  # of which an overview has no whole pixel
        "flat": np.full((1, 700, 3), pink, np.uint8),
        "white": np.full((300, 300, 3), 255, np.uint8),
    }
    for name, image in slides.items():
        write_tiff_slide(tmp_path / f"{name}.tiff", image, levels=1)
    # Nothing was ever scanned: OpenSlide shows it as transparent.
    hollow = jpeg_slide(tmp_path / "hollow.tiff")
    for level in range(2):
        _forget_tiles(hollow, level)
    named = [tmp_path / f"{name}.tiff" for name in [*slides, "hollow"]]
    out = tmp_path / "run"
    done = call("score", *named, "--model", tiny_model, "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    for row in rows(out):
        with (out / f"{row['id']}.regions.csv").open(newline="") as file:
            table = list(csv.DictReader(file))
        assert len(table) == int(row["n_regions"])
        assert row["status"] == ("done" if table else "empty")
        assert len(ScoreMap.load(out / f"{row['id']}.run.h5")) == len(table)
        features = json.loads((out / f"{row['id']}.geojson").read_text())["features"]
        assert len(features) == len(table)
    empty = [row["slide"] for row in rows(out) if row["status"] == "empty"]
    assert "white.tiff" in empty
    assert "hollow.tiff" in empty


def _forget_tiles(path: Path, level: int) -> None:
    """Writes 0 as offset and size of every tile of a level."""
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        page = tiff.pages[level]
        for name in ("TileOffsets", "TileByteCounts"):
            tag = page.tags[name]
            tag.overwrite([0] * tag.count)


@pytest.mark.parametrize("size", [(519, 397), (128, 641), (1000, 130)])
@pytest.mark.parametrize("mpp", [0.5, 0.37])
def test_case_13_every_pixel_is_in_one_region(
    tiny_model: Path, tmp_path: Path, size: tuple[int, int], mpp: float
) -> None:
    """Of sides that no region divides, at pixel sizes that do not divide a region either."""
    width, height = size
    image = tissue_image(width, height, ((0, 0, width, height),))
    slide = write_tiff_slide(tmp_path / "a.tiff", image, mpp, levels=1)
    regions = score(slide, str(tiny_model), tissue="all", use_cache=False).regions
    covered = np.zeros((height, width), int)
    for x0, y0, w, h in regions[["minx", "miny", "width", "height"]].to_numpy():
        covered[max(0, y0) : y0 + h, max(0, x0) : x0 + w] += 1
    assert len(regions) > 3
    assert (covered == 1).all(), np.argwhere(covered != 1)[:5]


def test_case_15_nasty_names_stay_inside_and_apart(
    call: Call, tiny_model: Path, tmp_path: Path
) -> None:
    slide = write_tiff_slide(tmp_path / "x.tiff", tissue_image(128, 128, ((0, 0, 128, 128),)))
    names = ["CON.tiff", "-rf.tiff", "a\nb.tiff", "🔬.tiff", "dot..tiff", "%00.tiff",
             "=1+1.tiff", "<script>.tiff", "x" * 240 + ".tiff"]  # fmt: skip
    folder = tmp_path / "deep" / "slides"
    paths = [folder / name for name in names]
    paths += [folder / side / "same.tiff" for side in ("a", "b")]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(slide.read_bytes())
    (folder / "link.tiff").symlink_to(slide)
    outside = folder / ".." / ".." / "x.tiff"
    inputs = [*(f"./{path.relative_to(tmp_path)}" for path in paths),
              str(folder / "link.tiff"), str(outside)]  # fmt: skip
    old = Path.cwd()
    os.chdir(tmp_path)
    try:
        done = call("score", *inputs, "--model", tiny_model, "--out", "run", "--tissue", "all")
    finally:
        os.chdir(old)
    assert done.returncode == 0, done.stdout + done.stderr
    before = {"deep", "run", "x.tiff"}
    assert {path.name for path in tmp_path.iterdir()} == before, "something was written outside"
    table = rows(tmp_path / "run")
    assert len(table) == len(inputs)
    assert len({row["id"].casefold() for row in table}) == len(inputs)
    for row in table:
        assert (tmp_path / "run" / f"{row['id']}.run.h5").is_file()
        assert not row["slide"].startswith(("=", "+", "-", "@"))
    assert not [path for path in (tmp_path / "run").rglob("*") if path.is_symlink()]


@pytest.fixture
def given(tissue_slide: Path, tiny_model: Path) -> tuple[bytes, bytes]:
    """A slide and a model, read before this process becomes a user who may not."""
    return tissue_slide.read_bytes(), tiny_model.read_bytes()


def test_case_26_input_is_never_written(
    call: Call, given: tuple[bytes, bytes], closed_folder: Path
) -> None:
    slide = closed_folder / "in" / "slide.tiff"
    slide.parent.mkdir()
    slide.write_bytes(given[0])
    model = closed_folder / "tiny.safetensors"
    model.write_bytes(given[1])
    slide.chmod(0o444)
    os.utime(slide, (1e9, 1e9))
    slide.parent.chmod(0o555)
    before = hashlib.sha256(slide.read_bytes()).digest(), slide.stat().st_mtime_ns
    out = closed_folder / "run"
    done = call("score", slide, "--model", model, "--out", out, "--no-cache")
    assert done.returncode == 0, done.stderr
    assert (hashlib.sha256(slide.read_bytes()).digest(), slide.stat().st_mtime_ns) == before
    assert list(slide.parent.iterdir()) == [slide]


@pytest.mark.parametrize("how", ["replaced", "cut", "touched"])
def test_case_27_a_slide_that_changes_meanwhile_is_refused(
    call: Call, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    slide = write_tissue_slide(tmp_path / "slide.tiff")
    predict = XT.predict_reduced

    def change(self: XT, *args: Any, **kwargs: Any) -> Any:
        if how == "replaced":
            other = write_tissue_slide(tmp_path / "other.tiff", side=1100)
            os.replace(other, slide)
        elif how == "cut":
            os.truncate(slide, slide.stat().st_size // 2)
        else:
            os.utime(slide, (1e9, 1e9))
        return predict(self, *args, **kwargs)

    monkeypatch.setattr(XT, "predict_reduced", change)
    out = tmp_path / "run"
    done = call("score", slide, "--model", tiny_model, "--out", out)
    assert done.returncode == 3, done.stderr
    (row,) = rows(out)
    assert "changed while it was being read" in row["reason"]
    assert not (out / "slide.run.h5").exists()


def test_case_28_a_folder_that_cannot_be_written_fails_before_any_work(
    call: Call,
    given: tuple[bytes, bytes],
    closed_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def encode(*args: Any) -> None:
        pytest.fail("something was encoded")

    monkeypatch.setattr("xt_backend.model.RegionEncoder.forward", encode)
    slide = closed_folder / "slide.tiff"
    slide.write_bytes(given[0])
    model = closed_folder / "tiny.safetensors"
    model.write_bytes(given[1])
    for existing in (True, False):
        parent = closed_folder / f"closed{existing}"
        out = parent / "run"
        parent.mkdir()
        if existing:
            out.mkdir()
            out.chmod(0o555)
        parent.chmod(0o555)
        done = call("score", slide, "--model", model, "--out", out)
        assert done.returncode == 5, done.stdout + done.stderr
        assert "Not allowed to write" in done.stderr
        assert str(out) in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits, no fork")
def test_case_31_a_header_that_declares_a_giant(
    call: Call, tiny_model: Path, tmp_path: Path
) -> None:
    giant = write_tiff_slide(tmp_path / "giant.tiff", tissue_image(512, 512, ALL), levels=1)
    _declare(giant, 1_000_000, "ImageWidth", "ImageLength")
    done = call("score", giant, "--model", tiny_model, "--out", tmp_path / "run")
    assert done.returncode == 3, done.stderr
    assert "giant.tiff" in rows(tmp_path / "run")[0]["slide"]
    assert giant.stat().st_size < 2_000_000
    ordinary = write_tiff_slide(tmp_path / "ordinary.tiff", tissue_image(512, 512, ALL), levels=1)
    # A pyramid whose first level is a giant that was hardly scanned: opened, but not tried.
    sparse = _sparse_giant(tmp_path / "sparse.tiff", 1_000_000)
    with open_slide(sparse) as slide:
        assert slide.info.width_px == 1_000_000
    done = call("score", sparse, "--model", tiny_model, "--out", tmp_path / "second")
    (row,) = rows(tmp_path / "second")
    assert "--max-pixels" in row["reason"]
    assert "400000000000" in call("score", "--help").stdout
    assert peak_of(sparse, tiny_model, tmp_path) < peak_of(ordinary, tiny_model, tmp_path) + 3e8
    tracemalloc.start()
    try:
        with pytest.raises(UnsupportedSlideError, match="too many for an overview"):
            prepare(sparse, 1.0, 64, ScoreOptions(max_pixels=10**13, slide_mpp=0.5))
        assert tracemalloc.get_traced_memory()[1] < 1e9
    finally:
        tracemalloc.stop()


def peak_of(slide: Path, model: Path, folder: Path) -> int:
    """Most memory of a process of its own that scores a slide, bytes."""
    log = folder / f"{slide.stem}.log"
    command = ["score", slide, "--model", model, "--out", folder / f"{slide.stem}-run", "--json"]
    Command([*command, "--max-pixels", str(10**13)], log).end()
    (said,) = re.findall(r'"peak_memory_bytes": (\d+)', log.read_text())
    return int(said)


def _declare(path: Path, side: int, *names: str) -> None:
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        for name in names:
            tag = tiff.pages[0].tags[name]
            tag.overwrite([side] * tag.count if tag.count > 1 else side, dtype="I")


@pytest.mark.parametrize(
    ("names", "value", "said"),
    [
        (["TileByteCounts"], 2**32 - 1, "a part of 4294967295 bytes in a file of"),
        (["TileWidth", "TileLength"], 65520, "tiles of 65520 x 65520 px"),
    ],
)
def test_case_31_a_tile_that_declares_gigabytes(
    tmp_path: Path, names: list[str], value: int, said: str
) -> None:
    # OpenSlide asks for that much memory, and ends the process where there is not so much.
    slide = jpeg_slide(tmp_path / "slide.tiff")
    _declare(slide, value, *names)
    with pytest.raises(SlideOpenError, match=said):
        open_slide(slide)


def _sparse_giant(path: Path, side: int, tile: int = 16384) -> Path:
    """A BigTIFF of one level in which no tile was ever written."""
    n = (-(-side // tile)) ** 2
    entries = [
        (254, 4, 1, 0), (256, 4, 1, side), (257, 4, 1, side), (258, 3, 3, (8, 8, 8)),
        (259, 3, 1, 7), (262, 3, 1, 6), (277, 3, 1, 3), (284, 3, 1, 1), (322, 4, 1, tile),
        (323, 4, 1, tile), (324, 16, n, None), (325, 4, n, None),
    ]  # fmt: skip
    first = 16 + 8 + 20 * len(entries) + 8
    directory = struct.pack("<Q", len(entries))
    for tag, kind, count, value in entries:
        if tag == 324:
            field = struct.pack("<Q", first)
        elif tag == 325:
            field = struct.pack("<Q", first + 8 * n)
        elif isinstance(value, tuple):
            field = struct.pack("<4H", *value, 0)
        else:
            field = struct.pack("<Q", value)
        directory += struct.pack("<HHQ", tag, kind, count) + field
    path.write_bytes(
        b"II+\0\x08\0\0\0" + struct.pack("<Q", 16) + directory + bytes(8) + bytes(12 * n)
    )
    return path
