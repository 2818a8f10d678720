"""Finding tissue in real slides and tiles, against outlines drawn by hand."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xt_backend.errors import UnsupportedSlideError
from xt_backend.slides import (
    Thumbnail,
    Tissue,
    find_tissue,
    open_slide,
    read_shapes,
    tissue_at,
    tissue_from_shapes,
    weigh,
)

from .tissue_pictures import background, recall

OUTLINES = Path(__file__).parents[1] / "data" / "tissue_outlines"
HER2ST = {"her2st_C2": "her2st_C2.svs", "her2st_C3": "her2st_C3.tiff"}
# Tiles that show nothing but tissue, and how much of some others is tissue, by eye.
ALL_TISSUE = [
    "Non-Tumor/Case-48-P5-C18-17610-25605_104",
    "Non-Tumor/Case-48-P5-C20-44108-28521_119",
    "Non-Tumor/P9-B12-30770-23009_108",
    "Non-Tumor/P9-B28-22141-15533_111",
    "Non-Tumor/P9-B7-22066-28200_115",
    "Non-Viable-Tumor/Case-3-A12-16067-9053_104",
    "Non-Viable-Tumor/Case-3-A12-19907-12559_113",
    "Non-Viable-Tumor/Case-3-A15-34291-15707_101",
    "Non-Viable-Tumor/Case-3-A17-18676-13247_116",
    "Non-Viable-Tumor/Case-3-A17-38558-18797_108",
    "Non-Viable-Tumor/Case-3-A18-37940-12063_111",
    "Non-Viable-Tumor/Case-3-A7-31694-7282_107",
    "Non-Viable-Tumor/Case-3-A7-36617-26705_105",
    "Non-Viable-Tumor/Case-3-A8-27422-14386_120",
    "Non-Viable-Tumor/Case-3-A8-42275-18820_109",
]
MOSTLY_GLASS = {
    "Non-Tumor/Case-3-A15-2939-11262_112": (0.33, 0.46),
    "Non-Tumor/Case-3-A18-9485-39729_118": (0.2, 0.35),
    "Non-Tumor/Case-48-P5-C24-40142-14331_105": (0.04, 0.16),
    "Non-Tumor/P9-B6-5195-29864_106": (0.13, 0.35),
}
LAYOUTS = [
    "bcss-roi/slides/bcss_1008.svs",
    "slides-layouts/bcss_1008_dicom",
    "slides-layouts/bcss_1015_crop_leica.scn",
    "slides-layouts/bcss_1015_crop_mirax.mrxs",
    "slides-layouts/bcss_1015_crop_philips.tiff",
    "slides-layouts/bcss_1015_crop_subifd.ome.tiff",
    "slides-layouts/bcss_1015_crop_trestle.tif",
    "slides-layouts/bcss_1015_crop_ventana.bif",
    "slides-layouts/bcss_1015_crop_vms/bcss_1015.vms",
]


def tile(path: Path) -> Thumbnail:
    image = Image.open(path).convert("RGB")
    small = image.copy()
    small.thumbnail((1024, 1024))
    rgb = np.asarray(small)
    scale_x, scale_y = image.width / small.width, image.height / small.height
    return Thumbnail(rgb, np.ones(rgb.shape[:2], bool), scale_x, scale_y)


def slide_tissue(path: Path, max_px: int = 1024) -> tuple[Thumbnail, Tissue]:
    with open_slide(path) as slide:
        thumbnail = slide.thumbnail(max_px)
        mpp = slide.info.mpp
    return thumbnail, find_tissue(thumbnail, slide_mpp=mpp.value if mpp else None)


@pytest.mark.parametrize("max_px", [300, 1024])
@pytest.mark.parametrize("name", HER2ST)
def test_sections_outlined_by_hand(shared_data: Path, name: str, max_px: int) -> None:
    with open_slide(shared_data / "her2st-slides" / HER2ST[name]) as slide:
        thumbnail, mpp = slide.thumbnail(max_px), slide.require_mpp().value
        size = slide.info.width_px, slide.info.height_px
    longest = max(thumbnail.valid.shape)
    truth = tissue_from_shapes(
        read_shapes(OUTLINES / f"{name}.geojson"), *size, max_px=longest
    ).mask
    assert truth.shape == thumbnail.valid.shape
    for slide_mpp in (mpp, None):
        tissue = find_tissue(thumbnail, slide_mpp=slide_mpp)
        assert recall(tissue, truth) >= 0.99
        assert background(tissue, truth) <= (0.06 if max_px > 1000 else 0.15)
        kept_glass = np.count_nonzero(tissue.mask & ~truth) / np.count_nonzero(~truth)
        assert kept_glass <= (0.012 if max_px > 1000 else 0.03)


@pytest.mark.parametrize("name", HER2ST)
def test_sensitivity_only_ever_adds_on_a_section(shared_data: Path, name: str) -> None:
    with open_slide(shared_data / "her2st-slides" / HER2ST[name]) as slide:
        thumbnail = slide.thumbnail(600)
    evidence = weigh(thumbnail, slide_mpp=0.737)
    masks = [tissue_at(thumbnail, evidence, sensitivity=value / 8).mask for value in range(9)]
    for low, high in itertools.pairwise(masks):
        assert not (low & ~high).any()


@pytest.mark.parametrize("name", ["1008", "1015"])
@pytest.mark.parametrize("slide_mpp", [0.25, None])
def test_regions_without_glass_are_kept_whole(
    shared_data: Path, name: str, slide_mpp: float | None
) -> None:
    thumbnail = tile(shared_data / "bcss-roi" / "images" / f"{name}.jpg")
    tissue = find_tissue(thumbnail, slide_mpp=slide_mpp)
    assert tissue.fraction() >= 0.97
    assert tissue.kind == "all" or slide_mpp is None


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_same_region_in_every_container(shared_data: Path, name: str) -> None:
    thumbnail, tissue = slide_tissue(shared_data / name)
    assert tissue.fraction() >= 0.97
    assert not tissue.mask[~thumbnail.valid].any()


def test_lymph_node_tiles(shared_data: Path) -> None:
    paths = sorted((shared_data / "camelyon-512" / "images").glob("*.jpg"))
    shares = [find_tissue(tile(path), slide_mpp=1.0).fraction() for path in paths]
    assert len(shares) == 20
    assert np.mean(np.array(shares) >= 0.9) >= 0.9
    assert min(shares) >= 0.8


@pytest.mark.parametrize("kind", ["ADI", "LYM", "MUC", "MUS", "NORM", "STR", "TUM"])
def test_colon_tiles_also_of_fat(shared_data: Path, kind: str) -> None:
    paths = sorted((shared_data / "crc-val-he-224" / kind).glob("*.jpg"))
    assert len(paths) == 7
    assert min(find_tissue(tile(path), slide_mpp=0.5).fraction() for path in paths) >= 0.9


@pytest.mark.parametrize("name", ALL_TISSUE)
def test_bone_and_tumour_tiles(shared_data: Path, name: str) -> None:
    thumbnail = tile(shared_data / "osteosarcoma" / f"{name}.jpg")
    assert find_tissue(thumbnail, slide_mpp=1.0).fraction() >= 0.97


@pytest.mark.parametrize("name", MOSTLY_GLASS)
def test_glass_beside_bone(shared_data: Path, name: str) -> None:
    low, high = MOSTLY_GLASS[name]
    thumbnail = tile(shared_data / "osteosarcoma" / f"{name}.jpg")
    assert low <= find_tissue(thumbnail, slide_mpp=1.0).fraction() <= high


def test_fat_between_lymph_nodes_at_29_um(shared_data: Path) -> None:
    folder = shared_data / "slides-vendor" / "dicom-camelyon"
    thumbnail, _ = slide_tissue(next(folder.glob("*.dcm")))
    mask = find_tissue(thumbnail, slide_mpp=28.97).mask

    def share(x0: int, y0: int, x1: int, y1: int) -> float:
        """Of a box in level-0 px."""
        x, y = 1 / thumbnail.scale_x, 1 / thumbnail.scale_y
        return float(mask[int(y0 * y) : int(y1 * y), int(x0 * x) : int(x1 * x)].mean())

    assert share(100, 130, 180, 500) >= 0.99, "node"
    assert share(235, 300, 340, 440) >= 0.9, "fat"
    assert share(1110, 100, 1150, 580) <= 0.02, "glass"
    assert share(10, 640, 1140, 690) <= 0.02, "glass"
    assert share(490, 480, 560, 600) <= 0.02, "glass"


def test_a_skin_biopsy_and_a_stitched_scan(shared_data: Path) -> None:
    aperio = shared_data / "slides-vendor" / "aperio"
    _, skin = slide_tissue(aperio / "CMU-1-Small-Region.svs")
    assert 0.37 <= skin.fraction() <= 0.45
    assert not skin.mask[-300:, :100].any()
    _, stitched = slide_tissue(aperio / "TCGA-CR-7395-01A-01-TS1.svs")
    assert 0.6 <= stitched.fraction() <= 0.7
    height, width = stitched.mask.shape
    assert not stitched.mask[: height // 8, : width // 2].any(), "white filler and its edges"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hamamatsu/test3-DAPI-2-(387).ndpi", "mostly black"),
        ("mirax-incomplete/Mirax2-Fluorescence-2.mrxs", "fluorescence channels"),
    ],
)
def test_fluorescence_is_refused(shared_data: Path, name: str, text: str) -> None:
    with pytest.raises(UnsupportedSlideError, match=text) as caught:
        slide_tissue(shared_data / "slides-vendor" / name)
    assert "--tissue all" in caught.value.way_out


def test_odd_slides_do_not_fail(shared_data: Path) -> None:
    vendor = shared_data / "slides-vendor"
    _, labels = slide_tissue(vendor / "generic-tiff" / "no_dzi.tif")
    assert (labels.kind, labels.reason) == ("none", "the slide is black everywhere")
    _, blank = slide_tissue(vendor / "dicom-sm" / "sm_image.dcm")
    assert blank.kind == "none"
    _, tiny = slide_tissue(vendor / "aperio" / "small.svs")
    assert tiny.mask.shape == (16, 16)
    assert tiny.mask.any()
