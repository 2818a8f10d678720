"""The slide that a DICOM object refers to: its places and UIDs, and nothing about the patient."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xt_backend.errors import UnsupportedSlideError
from xt_backend.slides.dicom import dicom_files, is_dicom, series_uid

__all__ = ["DicomSource"]

_SLIDE_IMAGE = "1.2.840.10008.5.1.4.1.1.77.1.6"
"""VL Whole Slide Microscopy Image Storage."""

# Of these a derived object needs the values; all others, among them every text, stay behind.
_KEPT = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "ImageType",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PhotometricInterpretation",
    "TotalPixelMatrixColumns",
    "TotalPixelMatrixRows",
    "TotalPixelMatrixFocalPlanes",
    "TotalPixelMatrixOriginSequence",
    "ImageOrientationSlide",
    "ImagedVolumeWidth",
    "ImagedVolumeHeight",
    "ImagedVolumeDepth",
    "DimensionOrganizationType",
    "NumberOfOpticalPaths",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
_EMPTY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)


@dataclass(frozen=True)
class DicomSource:
    """The finest image of a DICOM slide.

    Attributes:
        header: Its attributes without pixels, patient, specimen or any text of the lab.
        series_uid: Of the slide's series.
        size_px: (width, height).
        spacing_mm: (x, y) mm between pixels.
        thickness_mm: Of the imaged plane.
        orientation: Six cosines: the way along a row, and along a column.
        origin_mm: Middle of the first pixel in the slide's frame of reference.
    """

    header: Any
    series_uid: str
    size_px: tuple[int, int]
    spacing_mm: tuple[float, float]
    thickness_mm: float
    orientation: tuple[float, ...]
    origin_mm: tuple[float, float, float]

    @classmethod
    def of(cls, slide: Path) -> DicomSource:
        """Read it from a DICOM file or the folder of one.

        Raises:
            UnsupportedSlideError: The slide is no DICOM slide, or lacks what places it.
        """
        wrong = UnsupportedSlideError(
            "This slide is no DICOM slide: a DICOM segmentation refers to a DICOM image",
            "Use --to ome-tiff or --to geojson",
        )
        if slide.is_dir():
            files = dicom_files(slide)
        else:
            if not is_dicom(slide):
                raise wrong
            series = series_uid(slide)
            files = [f for f in dicom_files(slide.parent) if series_uid(f) == series] or [slide]
        found = [header for header in map(_header, files) if header is not None]
        if not found:
            raise wrong
        finest = max(found, key=lambda header: int(header.TotalPixelMatrixColumns))
        try:
            return cls._from(finest)
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise UnsupportedSlideError(
                f"The DICOM slide does not say where its pixels lie: {error}",
                "Use --to ome-tiff or --to geojson",
            ) from error

    @classmethod
    def _from(cls, finest: Any) -> DicomSource:
        measures = finest.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        origin = finest.TotalPixelMatrixOriginSequence[0]
        vertical, horizontal = map(float, measures.PixelSpacing)
        return cls(
            header=_without_people(finest),
            series_uid=str(finest.SeriesInstanceUID),
            size_px=(int(finest.TotalPixelMatrixColumns), int(finest.TotalPixelMatrixRows)),
            spacing_mm=(horizontal, vertical),
            thickness_mm=float(measures.get("SliceThickness") or 0.001),
            orientation=tuple(map(float, finest.ImageOrientationSlide)),
            origin_mm=(
                float(origin.XOffsetInSlideCoordinateSystem),
                float(origin.YOffsetInSlideCoordinateSystem),
                float(origin.get("ZOffsetInSlideCoordinateSystem") or 0),
            ),
        )

    def position_mm(self, x_px: float, y_px: float) -> tuple[float, float, float]:
        """A place in the slide's frame of reference.

        Args:
            x_px: From the middle of the first pixel, along the row.
            y_px: Along the column.
        """
        right, down = x_px * self.spacing_mm[0], y_px * self.spacing_mm[1]
        along, across = self.orientation[:3], self.orientation[3:]
        x, y, z = (
            round(start + right * a + down * b, 9)
            for start, a, b in zip(self.origin_mm, along, across, strict=True)
        )
        return x, y, z


def _header(path: Path) -> Any:
    """Attributes of a file of the slide's pyramid; None for labels, overviews and other files."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        header = dcmread(path, stop_before_pixels=True)
    except (InvalidDicomError, OSError, ValueError):
        return None
    if header.get("SOPClassUID") != _SLIDE_IMAGE or "TotalPixelMatrixColumns" not in header:
        return None
    return header if "VOLUME" in header.get("ImageType", ()) else None


def _without_people(header: Any) -> Any:
    from pydicom.dataset import Dataset

    kept = Dataset()
    for name in _KEPT:
        if name in header:
            setattr(kept, name, header[name].value)
    for name in _EMPTY:
        setattr(kept, name, "")
    # What the standard wants for slides; the file's own may be any text.
    kept.PositionReferenceIndicator = "SLIDE_CORNER"
    measures = header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    spacing = Dataset()
    spacing.PixelSpacing = measures.PixelSpacing
    spacing.SliceThickness = measures.get("SliceThickness") or 0.001
    shared = Dataset()
    shared.PixelMeasuresSequence = [spacing]
    kept.SharedFunctionalGroupsSequence = [shared]
    return kept
