"""The DICOM segmentation, read back by pydicom and highdicom."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.score_maps import make_score_map

from xt_backend.errors import SlideOpenError, UnsupportedSlideError, UsageError
from xt_backend.outputs import PREDICTION_FORMATS, PredictionOptions, rgb
from xt_backend.slides.lattice import Lattice
from xt_backend.store import ScoreMap

DICOM = PREDICTION_FORMATS["dicom"]
OPTIONS = PredictionOptions(run={"started": "2026-11-23T08:53:20+00:00"})
SECRET = "DOE^JOHN"


@pytest.fixture
def slide(shared_data: Path, tmp_path: Path) -> Path:
    """The volume of a DICOM slide, with names planted wherever there is room for text."""
    pydicom = pytest.importorskip("pydicom", exc_type=ImportError)
    pytest.importorskip("highdicom", exc_type=ImportError)
    source = shared_data / "slides-layouts" / "bcss_1008_dicom"
    folder = tmp_path / SECRET
    folder.mkdir()
    for path in source.glob("volume_*.dcm"):
        header = pydicom.dcmread(path)
        header.PatientName = SECRET
        for name in ("PatientID", "AccessionNumber", "ContainerIdentifier", "StudyID"):
            setattr(header, name, SECRET[:16])
        header.StudyDescription = header.SeriesDescription = SECRET
        header.PositionReferenceIndicator = SECRET
        header.SpecimenDescriptionSequence[0].SpecimenIdentifier = SECRET
        header.save_as(folder / path.name)
    return folder


def scored(**changes: Any) -> ScoreMap:
    lattice = Lattice.for_bounds((0, 0, 3584, 2560), (0.25, 0.25), 0.5, 128)
    values = {"lattice": lattice, "width_px": 3584, "height_px": 2560, "has_bounds": False}
    return make_score_map(**{**values, **changes})


def write(slide: Path, score_map: ScoreMap, path: Path) -> Any:
    import highdicom

    DICOM.write(path, score_map, OPTIONS, slide)
    return highdicom.seg.segread(path)


def test_each_class_is_a_segment_with_its_probabilities(slide: Path, tmp_path: Path) -> None:
    score_map = scored()
    found = write(slide, score_map, tmp_path / "x.seg.dcm")
    assert [found.get_segment_description(n).segment_label for n in (1, 2, 3)] == list(
        score_map.classes
    )
    maps = found.get_total_pixel_matrix(rescale_fractional=True)
    truth = np.nan_to_num(score_map.grid(score_map.probabilities))
    assert maps.shape == truth.shape
    assert np.abs(maps - truth).max() <= 0.5 / 255 + 1e-6
    shown = found.get_segment_description(2).RecommendedDisplayCIELabValue
    import highdicom

    lab = highdicom.color.CIELabColor.from_rgb(*rgb(score_map.colors[1]))
    assert list(shown) == list(lab.value)


def test_its_pixels_lie_over_the_regions(slide: Path, tmp_path: Path) -> None:
    import highdicom
    import pydicom

    for stride in (128, 48):
        lattice = Lattice.for_bounds((0, 0, 3584, 2560), (0.25, 0.25), 0.5, 128, stride)
        score_map = scored(lattice=lattice)
        found = write(slide, score_map, tmp_path / "x.seg.dcm")
        image = pydicom.dcmread(slide / "volume_3584x2560.dcm", stop_before_pixels=True)
        assert found.FrameOfReferenceUID == image.FrameOfReferenceUID
        assert found.StudyInstanceUID == image.StudyInstanceUID
        to_glass = highdicom.spatial.PixelToReferenceTransformer.for_image(
            found, for_total_pixel_matrix=True
        )
        to_image = highdicom.spatial.ReferenceToImageTransformer.for_image(
            image, for_total_pixel_matrix=True
        )
        middles = to_image(to_glass(score_map.cells.astype(np.int64)))[:, :2]
        boxes = lattice.boxes(score_map.cells)
        np.testing.assert_allclose(middles, (boxes[:, :2] + boxes[:, 2:]) / 2, atol=1e-3)


def test_nobody_is_named(slide: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.seg.dcm"
    found = write(slide, scored(), path)
    assert b"DOE" not in path.read_bytes()
    assert str(tmp_path).encode() not in path.read_bytes()
    assert not found.PatientName
    assert not found.PatientID


def test_the_same_map_gives_the_same_bytes(slide: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "1.dcm", tmp_path / "2.dcm"
    first = write(slide, scored(), one)
    again = write(slide, scored(), other)
    assert one.read_bytes() == other.read_bytes()
    assert first.SOPInstanceUID == again.SOPInstanceUID
    model = write(slide, scored(model_sha256="cd" * 32), other)
    assert model.SOPInstanceUID != first.SOPInstanceUID


def test_a_slide_without_regions_has_a_valid_file(slide: Path, tmp_path: Path) -> None:
    found = write(slide, scored(cells=np.empty((0, 2), np.int32)), tmp_path / "x.seg.dcm")
    assert found.get_total_pixel_matrix(rescale_fractional=True).max() == 0


def test_a_file_of_the_slide_names_it_as_well_as_its_folder(slide: Path, tmp_path: Path) -> None:
    write(slide, scored(), tmp_path / "folder.dcm")
    write(slide / "volume_224x160.dcm", scored(), tmp_path / "file.dcm")
    assert (tmp_path / "folder.dcm").read_bytes() == (tmp_path / "file.dcm").read_bytes()


def test_other_slides_are_refused(tissue_slide: Path, tmp_path: Path) -> None:
    pytest.importorskip("highdicom", exc_type=ImportError)
    for path in (tissue_slide, tissue_slide.parent):
        with pytest.raises(UnsupportedSlideError, match="no DICOM slide"):
            DICOM.write(tmp_path / "x.seg.dcm", scored(), OPTIONS, path)
    for gone in (None, tmp_path / "gone.dcm"):
        with pytest.raises(SlideOpenError, match=r"local\.json"):
            DICOM.write(tmp_path / "x.seg.dcm", scored(), OPTIONS, gone)
    assert list(tmp_path.glob("*.seg.dcm")) == []


def test_another_size_is_refused(slide: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedSlideError, match="when it was scored"):
        DICOM.write(tmp_path / "x.seg.dcm", scored(width_px=4000), OPTIONS, slide)


@pytest.mark.parametrize(
    "run",
    [
        {"configuration": {"options": {"pseudonymise": "sha256:ab"}}},
        {"configuration": {"pseudonymise": True}},
        {"pseudonymise": True},
    ],
)
def test_pseudonymised_runs_are_refused_since_its_uids_lead_to_the_patient(run: Any) -> None:
    with pytest.raises(UsageError, match="undoes --pseudonymise"):
        DICOM.check(PredictionOptions(run=run))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(UsageError, match=r"napari-xt\[dicom\]"):
        DICOM.check(OPTIONS)
