"""`evaluate` with slides that share a name, and with slides that fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.annotations import write_annotations
from support.cli import Call
from support.slides import write_tissue_slide

BOXES = [("normal", (256, 256, 512, 768)), ("tumour", (512, 256, 768, 768))]


def add(folder: Path, slide: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "a.tiff").write_bytes(slide.read_bytes())
    write_annotations(folder / "a.geojson", BOXES)


@pytest.fixture
def slides(tissue_slide: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "slides"
    folder.mkdir()
    for name in ("one", "two"):
        add(folder / name, tissue_slide)
    return folder


def evaluate(call: Call, model: Path, slides: Path) -> tuple[int, dict[str, dict[str, object]]]:
    done = call("evaluate", "--model", model, "--slides", slides, "--bootstrap", "0", "--json")
    return done.returncode, json.loads(done.stdout)


def test_slides_of_one_name_all_count(call: Call, slides: Path, tiny_model: Path) -> None:
    code, report = evaluate(call, tiny_model, slides)
    assert code == 0
    assert set(report["slides"]) == {"a.tiff", "a.tiff (2)"}
    assert report["context"]["n_slides"] == 2
    assert report["context"]["n_regions"] == 32


def test_a_failed_slide_is_listed_and_told_by_the_exit_code(
    call: Call, slides: Path, tiny_model: Path
) -> None:
    write_tissue_slide(slides / "two" / "a.tiff", mpp=None)
    code, report = evaluate(call, tiny_model, slides)
    assert code == 3
    assert set(report["slides"]) == {"a.tiff"}
    assert "--slide-mpp" in report["failed"]["a.tiff (2)"]
    assert report["context"]["n_slides"] == 1


def test_a_failed_region_is_told_by_the_exit_code(
    call: Call, slides: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    from xt_backend.engine import Collected, collect
    from xt_backend.keys import RegionStatus

    def one_unreadable(*args: object, **options: object) -> Collected:
        found = collect(*args, **options)
        found.status[0] = RegionStatus.READ_ERROR
        assert np.count_nonzero(~found.scored) == 1
        return found

    monkeypatch.setattr("xt_backend.training.dataset.collect", one_unreadable)
    code, report = evaluate(call, tiny_model, slides)
    assert code == 3
    assert report["slides"]["a.tiff"] == {"regions": 16, "failed": 1}
