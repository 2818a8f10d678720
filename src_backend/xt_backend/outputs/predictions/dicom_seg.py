"""Format ``dicom``: a DICOM segmentation that lies over a DICOM slide."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xt_backend.errors import SlideOpenError, UnsupportedSlideError, UsageError
from xt_backend.keys import PRODUCT, RESEARCH_USE, RunFile
from xt_backend.outputs.palette import rgb
from xt_backend.outputs.predictions.dicom_source import DicomSource
from xt_backend.outputs.predictions.prediction_format import PredictionFormat, PredictionOptions
from xt_backend.outputs.run_json import is_pseudonymised
from xt_backend.publishing import publish_bytes
from xt_backend.slides import first_middle_px
from xt_backend.store.plain import canonical_json, writer_version
from xt_backend.store.score_map import ScoreMap

__all__ = ["DicomSeg"]

_TILE_PX = 256
_SCHEME = "99NAPARIXT"
_TEXT = 64
"""Most characters of a short text in DICOM."""


class DicomSeg(PredictionFormat):
    """``<id>.seg.dcm``: a fractional segmentation, a segment a class, 0 to 255 for 0 to 1.

    One pixel stands for one region (of overlapping ones for its middle, as wide as the stride),
    in the slide's own frame of reference. Study and slide are named, by their UIDs alone: patient,
    specimen and container stay empty. 0 also stands for regions without a score.
    """

    name = "dicom"
    needs_slide = True

    def check(self, options: PredictionOptions) -> None:
        """See `PredictionFormat`."""
        super().check(options)
        if is_pseudonymised(options.run):
            raise UsageError(
                "A DICOM segmentation names the slide's study by its UIDs, which undoes "
                "--pseudonymise",
                "Use --to ome-tiff or --to geojson",
            )
        try:
            import highdicom  # noqa: F401
        except ImportError as error:
            raise UsageError(
                "dicom needs highdicom, which is not installed",
                'Install it with: pip install "napari-xt[dicom]"',
            ) from error

    def file(self, slide_id: str, options: PredictionOptions) -> str:
        """See `PredictionFormat`."""
        return slide_id + RunFile.SEGMENTATION

    def write(
        self, path: Path, score_map: ScoreMap, options: PredictionOptions, slide: Path | None
    ) -> None:
        """See `PredictionFormat`."""
        if slide is None or not slide.exists():
            raise SlideOpenError(
                f"A DICOM segmentation needs the slide of {score_map.slide_id}, which is not "
                "where local.json of the run says",
                "Put it back, or score it again on this machine",
            )
        source = DicomSource.of(slide)
        if source.size_px != (score_map.width_px, score_map.height_px):
            raise UnsupportedSlideError(
                f"The DICOM slide of {score_map.slide_id} is {source.size_px} px now and was "
                f"{(score_map.width_px, score_map.height_px)} px when it was scored",
                "Score it again",
            )
        file = io.BytesIO()
        _segmentation(source, score_map, options).save_as(file, enforce_file_format=True)
        publish_bytes(path, file.getvalue())


def _segmentation(source: DicomSource, score_map: ScoreMap, options: PredictionOptions) -> Any:
    import highdicom as hd
    from pydicom.uid import generate_uid

    lattice = score_map.lattice
    run = canonical_json([score_map.slide_id, score_map.model_sha256, lattice.to_dict()])

    def uid(what: str) -> str:
        # From the content, so that writing again replaces the same object.
        return str(generate_uid(entropy_srcs=[PRODUCT, what, source.series_uid, run]))

    affine = lattice.middles_to_level0()
    step = np.diag(affine)[:2].tolist()
    place_mm = source.position_mm(*first_middle_px(affine))
    position = hd.PlanePositionSequence("SLIDE", place_mm, (1, 1))
    made = hd.seg.Segmentation(
        source_images=[source.header],
        pixel_array=_shares(score_map),
        segmentation_type=hd.seg.SegmentationTypeValues.FRACTIONAL,
        fractional_type=hd.seg.SegmentationFractionalTypeValues.PROBABILITY,
        segment_descriptions=_segments(score_map),
        series_instance_uid=uid("series"),
        series_number=100,
        sop_instance_uid=uid("instance"),
        instance_number=1,
        manufacturer=PRODUCT,
        manufacturer_model_name=score_map.model_name[:_TEXT],
        software_versions=writer_version(),
        device_serial_number=score_map.model_sha256[:16],
        content_label="PROBABILITIES",
        content_description=RESEARCH_USE[:_TEXT],
        pixel_measures=hd.PixelMeasuresSequence(
            pixel_spacing=[source.spacing_mm[1] * step[1], source.spacing_mm[0] * step[0]],
            slice_thickness=source.thickness_mm,
        ),
        plane_orientation=hd.PlaneOrientationSequence("SLIDE", source.orientation),
        plane_positions=[position],
        tile_pixel_array=True,
        tile_size=(_TILE_PX, _TILE_PX),
    )
    _settle(made, uid("dimensions"), str(options.run.get("started", "")))
    return made


def _shares(score_map: ScoreMap) -> npt.NDArray[np.float64]:
    """(1, rows, columns, C) of 0 to 1; 0 where there is no score."""
    probabilities = score_map.grid(score_map.probabilities)[None].astype(np.float64)
    return np.nan_to_num(probabilities).clip(0, 1)


def _segments(score_map: ScoreMap) -> list[Any]:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    algorithm = hd.AlgorithmIdentificationSequence(
        name=score_map.model_name[:_TEXT],
        version=score_map.model_sha256[:16],
        family=codes.cid7162.ArtificialIntelligence,
    )
    return [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=_short(name),
            segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=hd.sr.CodedConcept(f"class-{number}", _SCHEME, _short(name)),
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            display_color=hd.color.CIELabColor.from_rgb(*rgb(color)),
        )
        for number, (name, color) in enumerate(
            zip(score_map.classes, score_map.colors, strict=True), 1
        )
    ]


def _short(name: str) -> str:
    """What DICOM takes as a short text: no line breaks, and its separator replaced."""
    return "".join(c if c.isprintable() and c != "\\" else "_" for c in name)[:_TEXT] or "_"


def _settle(made: Any, dimensions_uid: str, started: str) -> None:
    """Put what would be drawn or read off the clock to what the run says: same map, same bytes."""
    try:
        when = datetime.fromisoformat(started).astimezone(UTC)
    except ValueError:
        when = datetime(1970, 1, 1, tzinfo=UTC)
    for kind in ("Content", "InstanceCreation", "Series"):
        if f"{kind}Date" in made:
            setattr(made, f"{kind}Date", when.strftime("%Y%m%d"))
            setattr(made, f"{kind}Time", when.strftime("%H%M%S"))
    for item in made.get("ContributingEquipmentSequence", ()):
        item.ContributionDateTime = when.strftime("%Y%m%d%H%M%S")
    for item in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
        if "DimensionOrganizationUID" in item:
            item.DimensionOrganizationUID = dimensions_uid
