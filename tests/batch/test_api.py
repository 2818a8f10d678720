"""`score` and `features` for scripts."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.slides import tissue_image, write_tiff_slide

import xt_backend as xt
from xt_backend.errors import UsageError
from xt_backend.model import hub

COLUMNS = [
    *("id", "minx", "miny", "width", "height", "status", "label"),
    *("prob_normal", "prob_tumour", "quality"),
]


@pytest.fixture
def glass(tmp_path: Path) -> Path:
    """A slide without tissue."""
    return write_tiff_slide(tmp_path / "glass.tiff", tissue_image(1024, 1024, ()))


@pytest.mark.parametrize("kept", [False, True])
def test_an_empty_slide_has_a_row_and_no_region(
    glass: Path, tissue_slide: Path, tiny_model: Path, tmp_path: Path, kept: bool
) -> None:
    out = tmp_path / "run" if kept else None
    alone = xt.score(glass, str(tiny_model), None if out is None else out / "alone")
    assert list(alone.slides["status"]) == ["empty"]
    assert list(alone.regions.columns) == COLUMNS
    assert len(alone.regions) == 0
    assert len(alone.score_map("glass")) == 0
    both = xt.score([glass, tissue_slide], str(tiny_model), None if out is None else out / "both")
    assert list(both.slides["status"]) == ["empty", "done"]
    assert list(both.regions.columns) == COLUMNS
    assert set(both.regions["id"]) == {"block"}
    assert len(both.regions) == 16


def test_failures_are_tried_again_without_a_look_at_what_is_done(
    tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    out, first, late = tmp_path / "run", tmp_path / "first.tiff", tmp_path / "late.tiff"
    first.write_bytes(tissue_slide.read_bytes())
    late.write_bytes(b"not there yet")
    run = xt.score([first, late], str(tiny_model), out, use_cache=False)
    assert list(run.slides["status"]) == ["done", "failed"]
    written = (out / "first.run.h5").stat().st_mtime_ns
    late.write_bytes(first.read_bytes())
    first.write_bytes(b"not looked at")
    again = xt.score([first, late], str(tiny_model), out, retry_failed=True, use_cache=False)
    assert list(again.slides["status"]) == ["done", "done"]
    assert (out / "first.run.h5").stat().st_mtime_ns == written
    with pytest.raises(UsageError, match="no folder was named"):
        xt.score(late, str(tiny_model), retry_failed=True)
    with pytest.raises(UsageError, match="holds no run"):
        xt.features(
            late, "tf_efficientnet_lite0", tmp_path / "new", weights="random", retry_failed=True
        )


def test_a_run_of_features_has_no_predictions(tissue_slide: Path, tmp_path: Path) -> None:
    run = xt.features(
        tissue_slide, "tf_efficientnet_lite0", tmp_path / "out",
        weights="random", model_mpp=1.0, region_px=64,
    )  # fmt: skip
    assert list(run.slides["status"]) == ["done"]
    assert len(run.regions) == 0
    assert "label" in run.regions


def test_offline_reaches_whatever_would_download(
    tissue_slide: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xt_backend.engine import loaded

    asked: list[object] = []
    load = loaded.load_model

    def watching(path: Path, *, offline: bool | None, **more: bool) -> object:
        asked.append(offline)
        return load(path, offline=offline, **more)

    monkeypatch.setattr(loaded, "load_model", watching)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for offline, wanted in ((True, True), (False, None)):
        run = xt.score(tissue_slide, str(tiny_model), offline=offline)
        assert run.exit_code == 0
        assert asked.pop() is wanted
    assert not asked
    assert not hub.is_offline()


def test_a_stride_beyond_the_region_is_refused(tissue_slide: Path, tiny_model: Path) -> None:
    with pytest.raises(UsageError, match="stride"):
        xt.score(tissue_slide, str(tiny_model), stride_px=100)


def test_regions_go_to_qupath_from_memory_and_from_a_folder(
    glass: Path, tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.svs").write_bytes(b"")
    slides = [tissue_slide, tmp_path / "broken.svs", glass]
    memory = xt.score(slides, str(tiny_model))
    with pytest.raises(UsageError, match="no folder"):
        memory.to_geojson()
    written = memory.to_geojson(str(tmp_path / "a"), merged=True, compressed=True)
    assert [path.name for path in written] == [
        "block.outlines.geojson.gz",
        "glass.outlines.geojson.gz",
    ]
    kept = xt.score(slides, str(tiny_model), tmp_path / "run")
    before = (tmp_path / "run" / "block.geojson").read_bytes()
    (tmp_path / "run" / "block.geojson").unlink()
    assert kept.to_geojson()[0] == tmp_path / "run" / "block.geojson"
    assert (tmp_path / "run" / "block.geojson").read_bytes() == before
    memory.to_geojson(tmp_path / "b")
    assert (tmp_path / "b" / "block.geojson").read_bytes() == before
    features = xt.features(
        glass, "tf_efficientnet_lite0", tmp_path / "out",
        weights="random", model_mpp=1.0, region_px=64,
    )  # fmt: skip
    with pytest.raises(UsageError, match="predicts nothing"):
        features.to_geojson()
