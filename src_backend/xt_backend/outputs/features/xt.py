"""Layout ``xt``: every token of every region, with what became of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xt_backend.errors import UsageError
from xt_backend.keys import FeaturesH5, RunFile
from xt_backend.outputs.features.layout import Layout, Writer
from xt_backend.outputs.features.table import FeatureKind, FeatureTable
from xt_backend.slides.lattice import Lattice
from xt_backend.store import Blocks, FileRows, in_blocks, open_checked, write_h5
from xt_backend.store.shard import check_schema

__all__ = ["Xt", "read_features_h5"]

_BUDGET_BYTES = 64 << 30


class Xt(Layout):
    """``<id>.features.h5``: ours, which `read_features_h5` takes back.

    It holds ``features`` (n, k*k, D) float16 (float32 after context), ``coords`` (n, 2) int64 and
    ``boxes`` (n, 4) int64, level-0 px in OpenSlide's frame, ``cell`` (n, 2) int32 (col, row),
    ``status`` (n,) uint8 and, where it is known, ``tissue`` (n,) float32; attributes name model
    mpp, region size, lattice and encoder. Of a whole slide ``features`` is (1, 1, D).
    """

    name = "xt"
    own_folder = False

    def files(self, kind: FeatureKind, slide_id: str) -> tuple[str, ...]:
        """See `Layout`."""
        return (f"{slide_id}.{kind.prefix}{RunFile.FEATURES[1:]}",)

    def writers(self, table: FeatureTable) -> Iterator[Writer]:
        """See `Layout`."""
        boxes = table.lattice.boxes(table.cells)
        features = in_blocks(table.features) if table.level == "region" else _of_slide(table)
        datasets: dict[str, npt.NDArray[Any] | Blocks] = {
            FeaturesH5.FEATURES: features,
            FeaturesH5.COORDS: np.ascontiguousarray(boxes[:, :2]),
            FeaturesH5.BOXES: boxes,
            FeaturesH5.CELL: table.cells,
            FeaturesH5.STATUS: table.status,
        }
        if table.tissue is not None:
            datasets[FeaturesH5.TISSUE] = table.tissue
        attrs: dict[str, str | int | float] = {
            FeaturesH5.ATTR_SCHEMA: FeaturesH5.SCHEMA,
            FeaturesH5.ATTR_MPP: table.lattice.model_mpp,
            FeaturesH5.ATTR_REGION_PX: table.lattice.region_px,
            FeaturesH5.ATTR_LATTICE: json.dumps(table.lattice.to_dict(), sort_keys=True),
            FeaturesH5.ATTR_NUMERICS: json.dumps(table.numerics, sort_keys=True),
            FeaturesH5.ATTR_LEVEL: table.level,
            FeaturesH5.ATTR_CONTEXT: table.when,
        }
        yield lambda file: write_h5(file, datasets, attrs)


def _of_slide(table: FeatureTable) -> npt.NDArray[np.float32]:
    whole: npt.NDArray[np.float32] = table.matrix.array()[:, None]
    return whole


def read_features_h5(path: Path, slide_id: str, size_px: tuple[int, int]) -> FeatureTable:
    """Open the features of regions that `Xt` wrote, before context.

    The whole file is read once, to be compared with its digest; features are read again from it
    as they are used.

    Args:
        path: The file.
        slide_id: Name of the slide in outputs.
        size_px: (width, height) of level 0.

    Raises:
        UsageError: It holds the features of a whole slide, or those after context.
        StoreVersionError: It was written by a newer version.
        StoreCorruptError: It is damaged or no such file.
        StoreError: It does not exist or may not be read.
    """
    with open_checked(path, _BUDGET_BYTES) as reader:
        check_schema(
            reader.name, reader.attr(FeaturesH5.ATTR_SCHEMA, int), FeaturesH5.SCHEMA, "(newer)"
        )
        kind = [reader.attrs.get(n) for n in (FeaturesH5.ATTR_LEVEL, FeaturesH5.ATTR_CONTEXT)]
        if kind not in ([None, None], ["region", "before"]):
            raise UsageError(
                f"{path.name} holds no features of regions before context",
                "Name a folder that `features` wrote with --level region",
            )
        shapes, dtypes = reader.shapes, reader.dtypes
        if len(shapes.get(FeaturesH5.FEATURES, ())) != 3:
            raise reader.corrupt("holds no features")
        data = {
            name: reader.read(name, dtypes[name], shape)
            for name, shape in shapes.items()
            if name != FeaturesH5.FEATURES
        }
        shape, dtype = shapes[FeaturesH5.FEATURES], dtypes[FeaturesH5.FEATURES]
        features = FileRows(path, FeaturesH5.FEATURES, shape, dtype, _BUDGET_BYTES)
        reader.check_digest({**data, FeaturesH5.FEATURES: in_blocks(features)})
        try:
            numerics = json.loads(reader.attr(FeaturesH5.ATTR_NUMERICS, str))
            return FeatureTable(
                slide_id=slide_id,
                size_px=size_px,
                lattice=Lattice.from_dict(json.loads(reader.attr(FeaturesH5.ATTR_LATTICE, str))),
                cells=data[FeaturesH5.CELL],
                status=data[FeaturesH5.STATUS],
                features=features,
                numerics=numerics,
                encoder=str(numerics["encoder"]),
                tissue=data.get(FeaturesH5.TISSUE),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise reader.corrupt(f"holds no features ({error})") from error
