"""Every real slide: metadata as documented, and the same pixels in every container."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xt_backend.errors import RegionReadError, SlideMppError
from xt_backend.slides import Lattice, Reader, open_slide

L, V = "slides-layouts", "slides-vendor"

# vendor, size, levels, mpp (None: unknown), objective power, bounds (None: whole slide)
SLIDES: dict[str, tuple[str, tuple[int, int], int, float | None, float | None, Any]] = {
    "bcss-roi/slides/bcss_1008.svs": ("aperio", (3584, 2560), 3, 0.25, 40, None),
    "her2st-slides/her2st_C2.svs": ("aperio", (9274, 9911), 3, 0.7369, 20, None),
    "her2st-slides/her2st_C3.tiff": ("generic-tiff", (9270, 9936), 6, 0.7366, None, None),
    f"{L}/bcss_1008_dicom": ("dicom", (3584, 2560), 3, 0.25, None, None),
    f"{L}/bcss_1008_dicom/label_384x448.dcm": ("dicom", (3584, 2560), 3, 0.25, None, None),
    f"{L}/bcss_1015_crop_leica.scn": (
        "leica",
        (10048, 10048),
        3,
        0.25,
        20,
        (4000, 4000, 2048, 2048),
    ),
    f"{L}/bcss_1015_crop_mirax.mrxs": ("mirax", (2048, 2048), 5, 0.25, 40, None),
    f"{L}/bcss_1015_crop_philips.tiff": ("philips", (2048, 2048), 5, 0.25, None, None),
    f"{L}/bcss_1015_crop_subifd.ome.tiff": ("generic-tiff", (2048, 2048), 1, None, None, None),
    f"{L}/bcss_1015_crop_trestle.tif": ("trestle", (2048, 2048), 4, 0.25, 20, None),
    f"{L}/bcss_1015_crop_ventana.bif": ("ventana", (2048, 2048), 5, 0.25, 20, None),
    f"{L}/bcss_1015_crop_vms/bcss_1015.vms": ("hamamatsu", (1536, 1536), 8, 0.25, 40, None),
    f"{V}/aperio/CMU-1-Small-Region.svs": ("aperio", (2220, 2967), 1, 0.499, 20, None),
    f"{V}/aperio/TCGA-CR-7395-01A-01-TS1.svs": ("aperio", (4443, 3567), 2, None, None, None),
    f"{V}/aperio/small.svs": ("aperio", (16, 16), 1, 0.499, 20, None),
    f"{V}/dicom-boxes": ("dicom", (16, 16), 1, 0.499, 20, None),
    f"{V}/dicom-camelyon": ("dicom", (1152, 700), 1, None, None, None),
    f"{V}/dicom-sm": ("dicom", (50, 50), 1, 0.499, None, None),
    f"{V}/generic-tiff/boxes.tiff": ("generic-tiff", (300, 250), 4, None, None, None),
    f"{V}/generic-tiff/no_dzi.tif": (
        "generic-tiff",
        (3072, 3968),
        4,
        0.9724,
        None,
        (0, 512, 3072, 3456),
    ),
    f"{V}/hamamatsu/test3-DAPI-2-(387).ndpi": ("hamamatsu", (3968, 4864), 7, 0.2282, 40, None),
}
UNREADABLE = {
    f"{V}/mirax-incomplete/Mirax2-Fluorescence-2.mrxs": (
        "mirax",
        (72448, 152080),
        10,
        0.3225,
        20,
        (9153, 102664, 10439, 7641),
    ),
    f"{V}/broken/unreadable.svs": ("aperio", (16, 16), 1, 0.499, 20, None),
}


@pytest.mark.parametrize("name", [*SLIDES, *UNREADABLE])
def test_metadata(shared_data: Path, name: str) -> None:
    vendor, size, n_levels, mpp, power, bounds = {**SLIDES, **UNREADABLE}[name]
    with open_slide(shared_data / name) as slide:
        info = slide.info
        assert info.name == Path(name).name
        assert (info.vendor, (info.width_px, info.height_px)) == (vendor, size)
        assert len(info.level_dimensions) == len(info.level_downsamples) == n_levels
        assert info.bounds_px == (bounds or (0, 0, *size))
        assert info.has_bounds == (bounds is not None)
        assert info.objective_power == power
        if mpp is None:
            assert info.mpp is None
            assert info.mpp_problem
            with pytest.raises(SlideMppError, match="--slide-mpp"):
                slide.require_mpp()
        else:
            assert slide.require_mpp().value == pytest.approx(mpp, rel=1e-3)
            assert slide.require_mpp().source == "openslide.mpp-x"
            assert info.mpp_problem == ""
        assert len(bytes.fromhex(slide.identity())) == 32
        assert not slide.has_changed()
    assert str(shared_data) not in repr(info)
    assert str(shared_data) not in repr(slide)


@pytest.mark.parametrize("name", SLIDES)
def test_pixels_thumbnail_and_regions(shared_data: Path, name: str) -> None:
    with open_slide(shared_data / name, slide_mpp=0.5) as slide:
        info = slide.info
        x, y, w, h = info.bounds_px
        whole = slide.thumbnail(256)
        height, width = whole.rgb.shape[:2]
        assert max(height, width) <= 256
        assert whole.valid.shape == (height, width)
        assert whole.scale_x * width == pytest.approx(info.width_px)
        assert whole.scale_y * height == pytest.approx(info.height_px)
        assert whole.valid.any()
        assert whole.unreadable is None
        middle = (x + w // 2, y + h // 2)
        # A coarse read shows what the thumbnail shows: levels, bounds and scale agree.
        coarse = slide.read(x, y, 40, 40, 0.5 * max(w, h) / 40)
        assert coarse.shape == (40, 40, 3)
        side = max(w, h)
        rows = ((np.arange(40) + 0.5) * side / 40 + y) / whole.scale_y
        cols = ((np.arange(40) + 0.5) * side / 40 + x) / whole.scale_x
        inside = np.ix_(np.flatnonzero(rows < height), np.flatnonzero(cols < width))
        picked = whole.rgb[rows[rows < height].astype(int)][:, cols[cols < width].astype(int)]
        assert np.abs(coarse[inside].astype(int) - picked).mean() < 20
        for level in range(len(info.level_dimensions)):
            step = info.level_downsamples[level]
            piece = slide.read_level(level, int(middle[0] / step), int(middle[1] / step), 5, 4)
            assert piece.shape == (4, 5, 3)

        lattice = Lattice.for_bounds(info.bounds_px, (0.5, 0.5), 1.0, 128)
        cells = lattice.all_cells()[:7]
        with Reader(slide, lattice, cells, batch_size=3, threads=2) as reader:
            batches = list(reader)
        assert np.concatenate([batch.rows for batch in batches]).tolist() == list(range(len(cells)))
        assert np.isin(np.concatenate([batch.status for batch in batches]), (0, 1)).all()


@pytest.mark.parametrize(
    ("name", "offset"),
    [
        ("bcss_1015_crop_leica.scn", (4000, 4000)),
        ("bcss_1015_crop_mirax.mrxs", (0, 0)),
        ("bcss_1015_crop_philips.tiff", (0, 0)),
        ("bcss_1015_crop_subifd.ome.tiff", (0, 0)),
        ("bcss_1015_crop_trestle.tif", (0, 0)),
        ("bcss_1015_crop_ventana.bif", (0, 0)),
        ("bcss_1015_crop_vms/bcss_1015.vms", (0, 0)),
        ("bcss_1008_dicom", (0, 0)),
        ("../bcss-roi/slides/bcss_1008.svs", (0, 0)),
    ],
)
def test_same_pixels_in_every_container(
    shared_data: Path, name: str, offset: tuple[int, int]
) -> None:
    """Against the source picture, whole and scaled, at places all over the slide."""
    case = "1008" if "1008" in name else "1015"
    source = Image.open(shared_data / f"bcss-roi/images/{case}.jpg").convert("RGB")
    if case == "1015":
        source = source.crop((512, 0, 2560, 2048))
    with open_slide(shared_data / L / name, slide_mpp=0.25) as slide:
        for x, y in ((50, 60), (700, 300), (511, 903)):
            for mpp in (0.25, 0.4, 0.5, 1.1):
                seen = slide.read(offset[0] + x, offset[1] + y, 128, 128, mpp).astype(int)

                errors = []
                half = mpp / 0.25 / 2
                for dx, dy in ((0, 0), (half, 0), (-half, 0), (0, half), (0, -half)):
                    left, top, span = x + dx, y + dy, 128 * mpp / 0.25
                    area = (left, top, left + span, top + span)
                    true = source.resize((128, 128), Image.Resampling.HAMMING, area)
                    errors.append(float(np.abs(seen - np.asarray(true)).mean()))
                # Levels of the pyramids were made with another filter than ours.
                assert errors[0] < 8, (mpp, (x, y))
                assert errors[0] < min(errors[1:]), "half an output px beside would fit better"


def test_same_pixels_fall_into_the_same_regions(shared_data: Path) -> None:
    """One crop in a container with bounds and in one without: same cells, nearly same pixels."""
    seen = []
    for name in ("bcss_1015_crop_leica.scn", "bcss_1015_crop_philips.tiff"):
        with open_slide(shared_data / L / name) as slide:
            mpp = slide.require_mpp()
            lattice = Lattice.for_bounds(slide.info.bounds_px, (mpp.x, mpp.y), 0.6, 100)
            with Reader(slide, lattice, lattice.all_cells(), batch_size=81, threads=1) as reader:
                (batch,) = reader
            seen.append((lattice.all_cells(), batch))
    np.testing.assert_array_equal(seen[0][0], seen[1][0])
    np.testing.assert_array_equal(seen[0][1].status, seen[1][1].status)
    difference = np.abs(seen[0][1].pixels.astype(int) - seen[1][1].pixels)
    assert difference.mean(axis=(1, 2, 3)).max() < 6


def test_incomplete_mirax_reads_where_it_can(shared_data: Path) -> None:
    path = shared_data / V / "mirax-incomplete" / "Mirax2-Fluorescence-2.mrxs"
    with open_slide(path) as slide:
        assert "lacks 3 of the 25 files" in slide.missing
        assert "(Data0005.dat, Data0006.dat, Data0007.dat)" in slide.missing
        x, y, w, h = slide.info.bounds_px
        assert slide.info.background_rgb == (128, 128, 128)
        assert slide.read(x, y, w // 8, h // 8, 0.3225 * 8).std() > 1
        with pytest.raises(RegionReadError, match="Data0005") as caught:
            slide.read(x + w / 2, y + h / 2, 64, 64, 0.3225)
        assert "Mirax2" not in str(caught.value)
        assert slide.read(x, y, w // 8, h // 8, 0.3225 * 8).std() > 1, "the handle stayed dead"
        # Nothing was scanned beside the bounds: the file's own grey, not black or white.
        assert (slide.read(0, 0, 10, 10, 5.0) == 128).all()


def test_unreadable_slide(shared_data: Path) -> None:
    with open_slide(shared_data / V / "broken" / "unreadable.svs") as slide:
        with pytest.raises(RegionReadError, match="Bogus marker"):
            slide.read(0, 0, 16, 16, 0.499)
        with pytest.raises(RegionReadError):
            slide.thumbnail()


def test_input_files_stay_as_they_are(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / L / "bcss_1015_crop_trestle.tif"
    copy = tmp_path / "slide.tif"
    copy.write_bytes(source.read_bytes())
    copy.chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        before = (hashlib.sha256(copy.read_bytes()).digest(), copy.stat().st_mtime_ns)
        with open_slide(copy) as slide:
            slide.thumbnail(64)
            slide.read(0, 0, 64, 64, 0.5)
            slide.identity()
        assert (hashlib.sha256(copy.read_bytes()).digest(), copy.stat().st_mtime_ns) == before
        assert [file.name for file in tmp_path.iterdir()] == ["slide.tif"]
    finally:
        tmp_path.chmod(0o755)
