from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from xt_backend.errors import AnnotationError, InputNotFoundError, UsageError
from xt_backend.samples import import_pictures
from xt_backend.samples.mask_outlines import outline_of
from xt_backend.slides import open_slide, read_shapes

CLASSES = {0: "other", 3: "tumour", 7: ""}


def a_mask(seed: int = 0, shape: tuple[int, int] = (60, 80)) -> np.ndarray:
    """Blots of the three values."""
    rng = np.random.default_rng(seed)
    coarse = rng.choice([0, 3, 7], size=(shape[0] // 10, shape[1] // 10))
    return coarse.repeat(10, axis=0).repeat(10, axis=1).astype(np.uint8)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A picture of 640 x 480 px and its mask, half of its size."""
    pictures, masks = tmp_path / "pictures", tmp_path / "masks"
    pictures.mkdir()
    masks.mkdir()
    rng = np.random.default_rng(1)
    light = rng.integers(90, 240, (12, 16, 3), dtype=np.uint8)
    picture = Image.fromarray(light).resize((640, 480), Image.Resampling.BICUBIC)
    picture.save(pictures / "one.png")
    Image.fromarray(a_mask(shape=(240, 320))).save(masks / "one.png")
    return pictures, masks


def test_a_picture_becomes_a_slide_with_its_pixels_and_its_mask_annotations(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    pictures, masks = folders
    told: list[tuple[int, int]] = []
    made = import_pictures(
        pictures, tmp_path / "out", 0.25, masks=masks, classes=CLASSES,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert told == [(0, 1), (1, 1)]
    rgb = np.asarray(Image.open(pictures / "one.png"))
    with open_slide(made[0].slide) as slide:
        mpp = slide.require_mpp()
        pixels = slide.read(0, 0, 640, 480, 0.25)
    assert (mpp.x, mpp.y) == pytest.approx((0.25, 0.25))
    assert np.abs(pixels.astype(int) - rgb).mean() < 2
    annotations = made[0].annotations
    assert annotations is not None
    area = {shape.name: shape.geometry.area for shape in read_shapes(annotations)}
    values = a_mask(shape=(240, 320))
    assert area == {"other": 4 * (values == 0).sum(), "tumour": 4 * (values == 3).sum()}


def test_the_same_pictures_give_the_same_files(folders: tuple[Path, Path], tmp_path: Path) -> None:
    pictures, masks = folders
    for out in ("a", "b"):
        import_pictures(pictures, tmp_path / out, 0.5, masks=masks, classes=CLASSES)
    for name in ("one.tiff", "one.geojson"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_without_masks_there_are_only_slides(folders: tuple[Path, Path], tmp_path: Path) -> None:
    made = import_pictures(folders[0], tmp_path / "out", 0.5)
    assert [one.annotations for one in made] == [None]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["one.tiff"]


@given(st.integers(0, 10_000))
def test_outlines_hold_exactly_the_pixels(seed: int) -> None:
    inside = np.random.default_rng(seed).random((9, 11)) < 0.5
    outline = outline_of(inside)
    assert outline.is_valid
    assert outline.area == inside.sum()
    x, y = np.meshgrid(np.arange(11) + 0.5, np.arange(9) + 0.5)
    np.testing.assert_array_equal(shapely.contains_xy(outline, x, y), inside)


def test_paletted_masks_count_by_their_index(folders: tuple[Path, Path], tmp_path: Path) -> None:
    pictures, masks = folders
    mask = Image.fromarray(a_mask())
    mask.putpalette([index for index in range(256) for _ in range(3)][::-1])
    mask.save(masks / "one.png")
    made = import_pictures(pictures, tmp_path / "out", 0.5, masks=masks, classes=CLASSES)
    assert made[0].annotations is not None
    shapes = read_shapes(made[0].annotations)
    assert {one.name: one.geometry.area for one in shapes}["tumour"] == 64 * (a_mask() == 3).sum()


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (a_mask() + np.uint8(1), "1, 4, 8"),
        (np.zeros((60, 60), np.uint8), "60 x 60 px, its picture 640 x 480"),
        (np.zeros((60, 80, 3), np.uint8), "in mode RGB"),
    ],
)
def test_masks_that_do_not_fit_are_refused(
    folders: tuple[Path, Path], tmp_path: Path, mask: np.ndarray, said: str
) -> None:
    pictures, masks = folders
    Image.fromarray(mask).save(masks / "one.png")
    with pytest.raises(AnnotationError, match=said):
        import_pictures(pictures, tmp_path / "out", 0.5, masks=masks, classes=CLASSES)


def test_what_does_not_fit_together_is_named(folders: tuple[Path, Path], tmp_path: Path) -> None:
    pictures, masks = folders
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="belong together"):
        import_pictures(pictures, out, 0.5, masks=masks)
    with pytest.raises(InputNotFoundError, match="nowhere"):
        import_pictures(tmp_path / "nowhere", out, 0.5)
    (masks / "one.png").rename(masks / "two.png")
    with pytest.raises(AnnotationError, match="no mask: one"):
        import_pictures(pictures, out, 0.5, masks=masks, classes=CLASSES)
    (pictures / "one.jpg").write_bytes(b"no picture")
    with pytest.raises(UsageError, match=r"one\.jpg and one\.png"):
        import_pictures(pictures, out, 0.5)
    (pictures / "one.png").unlink()
    with pytest.raises(AnnotationError, match=r"one\.jpg cannot be read"):
        import_pictures(pictures, out, 0.5)
    (pictures / "one.jpg").unlink()
    with pytest.raises(UsageError, match="holds no pictures"):
        import_pictures(pictures, out, 0.5)
