"""Features that are finished are left alone, and known by slide, configuration and content."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.slides import write_tissue_slide

import xt_backend as xt
from xt_backend.batch import FeatureBatch, Run
from xt_backend.config import FeatureOptions
from xt_backend.engine import BatchEncoder
from xt_backend.slides import Reader

ENCODER = "tf_efficientnet_lite0"
OPTIONS: dict[str, Any] = {"weights": "random", "model_mpp": 1.0, "region_px": 64}
Extract = Callable[..., Run]


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    """A slide, and a file that is none."""
    folder = tmp_path / "slides"
    folder.mkdir()
    write_tissue_slide(folder / "a.tiff", side=512)
    (folder / "bad.svs").write_bytes(b"no slide")
    return folder


@pytest.fixture
def extract(slides: Path, tmp_path: Path) -> Extract:
    """Makes features of the slides, the same way each time."""

    def run(**more: Any) -> Run:
        options = {**OPTIONS, "cache": tmp_path / "cache", **more}
        return xt.features(slides, ENCODER, tmp_path / "out", **options)

    return run


def results(out: Path) -> dict[str, tuple[int, bytes]]:
    """Time and content of all files of slide a, by place."""
    named = [path for pattern in ("a.*", "a_*") for path in out.rglob(pattern)]
    assert len(named) > 1
    return {str(p.relative_to(out)): (p.stat().st_mtime_ns, p.read_bytes()) for p in named}


def refuse_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        pytest.fail("a region was read or encoded")

    monkeypatch.setattr(Reader, "__iter__", refuse)
    monkeypatch.setattr(BatchEncoder, "encode", refuse)


@pytest.mark.parametrize(
    "more",
    [
        {"layout": "xt"},
        {"layout": "trident"},
        {"layout": "clam"},
        {"layout": "h5", "level": "slide"},
    ],
    ids=lambda more: more["layout"],
)
def test_finished_work_is_left_as_it_is(
    extract: Extract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, str]
) -> None:
    first = extract(**more)
    assert first.counts == {"done": 1, "failed": 1, "empty": 0}
    before = results(tmp_path / "out")
    refuse_to_read(monkeypatch)
    monkeypatch.setattr("xt_backend.batch.feature_job.write_features", None)
    again = extract(**more, use_cache=False)
    assert results(tmp_path / "out") == before
    assert again.counts == first.counts
    row, old = again.rows[0], first.rows[0]
    assert (row.n_regions, row.cache, row.encoded_regions) == (old.n_regions, "hit", 0)
    assert old.encoded_regions == old.n_regions


def test_it_is_left_by_processes_and_by_a_later_call_too(extract: Extract, tmp_path: Path) -> None:
    extract()
    before = results(tmp_path / "out")
    for _ in range(2):
        assert extract(processes=2).counts == {"done": 1, "failed": 1, "empty": 0}
        assert results(tmp_path / "out") == before


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["patches/a_patches.h5", f"features_{ENCODER}/a.h5"])
@pytest.mark.parametrize("what", [damaged, Path.unlink], ids=["damaged", "gone"])
def test_a_file_that_is_not_whole_is_made_again(
    extract: Extract, tmp_path: Path, name: str, what: Callable[[Path], None]
) -> None:
    extract(layout="trident")
    out = tmp_path / "out"
    before = {name: content for name, (_, content) in results(out).items() if "ledger" not in name}
    (path,) = out.glob(f"*/{name}")
    what(path)
    extract(layout="trident")
    after = {name: content for name, (_, content) in results(out).items() if "ledger" not in name}
    assert after == before


def test_another_slide_in_its_place_is_done(extract: Extract, slides: Path, tmp_path: Path) -> None:
    extract()
    before = results(tmp_path / "out")["a.features.h5"]
    write_tissue_slide(slides / "a.tiff", side=640)
    extract()
    after = results(tmp_path / "out")["a.features.h5"]
    assert after != before
    extract()
    assert results(tmp_path / "out")["a.features.h5"] == after


def test_a_corrected_row_is_done_again(slides: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "list.csv"

    def run(mpp: float) -> int | None:
        manifest.write_text(f"slide,slide_mpp\nslides/a.tiff,{mpp}\n")
        made = xt.features(manifest, ENCODER, tmp_path / "out", use_cache=False, **OPTIONS)
        return made.rows[0].encoded_regions

    assert run(0.5)
    assert run(0.5) == 0
    assert run(1.0)


def test_what_an_earlier_version_made_is_made_again_once(extract: Extract, tmp_path: Path) -> None:
    extract()
    entry = tmp_path / "out" / "ledger" / "a.outcome.json"
    content = json.loads(entry.read_text())
    for key in ("identity", "files"):
        del content[key]
    entry.write_text(json.dumps(content))
    before = results(tmp_path / "out")["a.features.h5"]
    extract()
    once = results(tmp_path / "out")["a.features.h5"]
    assert once[0] > before[0]
    assert once[1] == before[1]
    extract()
    assert results(tmp_path / "out")["a.features.h5"] == once


def test_limits_of_now_count(extract: Extract, tmp_path: Path) -> None:
    assert extract().counts["done"] == 1
    run = extract(max_pixels=1000)
    assert run.counts["failed"] == 2
    assert not (tmp_path / "out" / "a.features.h5").exists()


def test_a_call_that_is_stopped_keeps_what_is_done(slides: Path, tmp_path: Path) -> None:
    options = FeatureOptions(**OPTIONS, cache=tmp_path / "cache")
    out = tmp_path / "out"
    FeatureBatch([slides], ENCODER, out, options).run()
    before = results(out)
    run = FeatureBatch([slides], ENCODER, out, options).run(cancelled=lambda: True)
    assert run.counts["done"] == 1
    assert results(out) == before


def test_a_slide_that_changes_meanwhile_is_refused(
    extract: Extract, slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = BatchEncoder.start

    def change(self: BatchEncoder, pixels: np.ndarray[Any, Any]) -> Any:
        os.utime(slides / "a.tiff", (1e9, 1e9))
        return encode(self, pixels)

    monkeypatch.setattr(BatchEncoder, "start", change)
    run = extract()
    assert "changed while it was being read" in run.rows[0].reason
    assert not (tmp_path / "out" / "a.features.h5").exists()
