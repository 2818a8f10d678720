"""Layout ``trident``: the folders and HDF5 files of TRIDENT."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xt_backend.outputs.features.h5_file import Attrs, H5Dataset, h5_file
from xt_backend.outputs.features.layout import Layout, Writer
from xt_backend.outputs.features.table import FeatureKind, FeatureTable

__all__ = ["Trident"]


class Trident(Layout):
    """``<mag>x_<px>px_<overlap>px_overlap/`` with ``patches/`` and ``features_<encoder>/``.

    TRIDENT counts in magnifications, a magnification m being 10 / m um/px. Those written here are
    those of the true pixel sizes, whole where they are whole, so that what it works out of them
    is the size that regions have.
    """

    name = "trident"

    def files(self, kind: FeatureKind, slide_id: str) -> tuple[str, ...]:
        """See `Layout`."""
        job, encoder = _job_folder(kind), kind.encoder_folder
        if kind.level == "slide":
            return (f"{job}/slide_features_{encoder}/{slide_id}.h5",)
        return (f"{job}/patches/{slide_id}_patches.h5", f"{job}/features_{encoder}/{slide_id}.h5")

    def writers(self, table: FeatureTable) -> Iterator[Writer]:
        """See `Layout`."""
        job, encoder = _job_folder(table.kind), table.kind.encoder_folder
        coords = table.boxes[:, :2]
        attrs = _coords_attrs(table, f"{job}/patches")
        if table.level == "region":
            yield h5_file({"coords": H5Dataset(coords, attrs)})
        folder = "slide_features" if table.level == "slide" else "features"
        about = {
            "name": table.slide_id,
            "savetodir": f"{job}/{folder}_{encoder}",
            "encoder": table.encoder,
        }
        yield h5_file(
            {"features": H5Dataset(table.squeezed, about), "coords": H5Dataset(coords, attrs)}
        )


def _coords_attrs(table: FeatureTable, folder: str) -> Attrs:
    lattice = table.lattice
    return {
        "patch_size": lattice.region_px,
        "patch_size_level0": table.region_level0_px,
        "level0_magnification": _magnification(table.slide_mpp),
        "target_magnification": _magnification(lattice.model_mpp),
        "overlap": lattice.region_px - lattice.stride_px,
        "name": table.slide_id,
        "savetodir": folder,
        "level0_width": table.size_px[0],
        "level0_height": table.size_px[1],
    }


def _job_folder(kind: FeatureKind) -> str:
    overlap = kind.region_px - kind.stride_px
    return f"{_magnification(kind.model_mpp):.4g}x_{kind.region_px}px_{overlap}px_overlap"


def _magnification(mpp: float) -> int | float:
    power = 10 / mpp
    return round(power) if np.isclose(power, round(power), rtol=1e-6) else power
