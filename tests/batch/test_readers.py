"""Who decodes a slide's tiles changes no result, nor does the container they lie in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from support.jpeg_slides import write_coded, write_jpeg_slide
from support.slides import tissue_image

import xt_backend
from xt_backend.store import ScoreMap


def _score(slide: Path, model: Path, out: Path, **options: object) -> ScoreMap:
    run = xt_backend.score([slide], model, out, use_cache=False, **options)
    assert run.slides["status"].tolist() == ["done"]
    return ScoreMap.load(out / f"{run.slides['id'][0]}.run.h5")


@pytest.mark.parametrize("mpp", [0.5, 0.37])
def test_direct_decoding_changes_no_byte_of_a_result(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, mpp: float
) -> None:
    """Regions are read scaled, half of them from below the edge of the tiles' grid."""
    image = tissue_image(1024, 768, ((200, 130, 900, 700),))
    slide = write_jpeg_slide(tmp_path / "block.tiff", [image], tile=240, mpp=mpp)
    direct = _score(slide, tiny_model, tmp_path / "direct")
    monkeypatch.setenv("NAPARI_XT_READER", "openslide")
    _score(slide, tiny_model, tmp_path / "openslide")
    readers = []
    for name in ("direct", "openslide"):
        run_json = json.loads((tmp_path / name / "run.json").read_text())
        readers.append(run_json["readers"]["block"])
    assert readers[0].startswith("level 0 by simplejpeg")
    assert readers[1] == "level 0 by OpenSlide: NAPARI_XT_READER says so"
    assert len(direct) > 20
    files = sorted(path.name for path in (tmp_path / "direct").glob("block.*"))
    assert "block.run.h5" in files
    for name in files:
        ours, theirs = ((tmp_path / out / name).read_bytes() for out in ("direct", "openslide"))
        assert ours == theirs, name


def test_features_name_the_reader_too(tmp_path: Path) -> None:
    image = tissue_image(512, 512, ((100, 100, 420, 420),))
    slide = write_jpeg_slide(tmp_path / "block.tiff", [image], tile=128, mpp=0.5)
    xt_backend.features(
        slide, "tf_efficientnet_lite0", tmp_path / "out", weights="random", region_px=64
    )
    run_json = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run_json["readers"]["block"].startswith("level 0 by simplejpeg")


def test_the_same_tiles_give_the_same_result_in_any_container(
    shared_data: Path, tmp_path: Path
) -> None:
    """The very tiles of a Leica file, with the same levels, as Aperio and as generic TIFF."""
    leica = shared_data / "slides-layouts" / "bcss_1015_crop_leica.scn"
    maps = [_score(leica, Path("context-demo"), tmp_path / "leica", tissue="all")]
    descriptions = {"generic": None, "aperio": "Aperio Image Library v11\n2048x2048|MPP = 0.25"}
    for name, description in descriptions.items():
        path = tmp_path / f"{name}.tiff"
        with tifffile.TiffFile(leica) as source, tifffile.TiffWriter(path) as tiff:
            handle = source.filehandle
            for index, page in enumerate(source.pages[1:4]):
                coded = []
                for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
                    handle.seek(offset)
                    coded.append(handle.read(count))
                write_coded(
                    tiff,
                    coded,
                    page.shape,
                    page.tilewidth,
                    subfiletype=1 if index and description is None else 0,
                    description=description if index == 0 else None,
                    resolution=(40000 / 4**index,) * 2,
                    resolutionunit="CENTIMETER",
                )
        with xt_backend.open_slide(path) as slide:
            assert slide.info.vendor == ("aperio" if description else "generic-tiff")
            assert slide.info.level_downsamples == (1, 4, 16)
        maps.append(_score(path, Path("context-demo"), tmp_path / name, tissue="all"))
    assert len(maps[0]) == 36
    for other in maps[1:]:
        np.testing.assert_array_equal(other.cells, maps[0].cells)
        np.testing.assert_array_equal(other.labels(), maps[0].labels())
        np.testing.assert_array_equal(other.region_only_logits, maps[0].region_only_logits)
        np.testing.assert_array_equal(other.logits, maps[0].logits)
