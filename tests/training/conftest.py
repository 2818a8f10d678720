"""Small slides with two colours of tissue, and their annotations."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile

SIDE_PX = 512
COLORS = {"dark": (96, 40, 120), "pale": (230, 160, 190)}

Box = tuple[int, int, int, int]
WriteSlide = Callable[..., Path]
WriteAnnotations = Callable[..., Path]


@pytest.fixture(scope="session")
def write_slide() -> WriteSlide:
    """Writes a tiled TIFF of `SIDE_PX`, dark to the left of `border_px`, pale to the right."""

    def write(path: Path, border_px: int = 256, seed: int = 0) -> Path:
        rng = np.random.default_rng(seed)
        pixels = np.empty((SIDE_PX, SIDE_PX, 3))
        pixels[:, :border_px] = COLORS["dark"]
        pixels[:, border_px:] = COLORS["pale"]
        pixels += rng.normal(0, 12, pixels.shape)
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(
            path, np.clip(pixels, 0, 255).astype(np.uint8), tile=(128, 128), photometric="rgb"
        )
        return path

    return write


@pytest.fixture(scope="session")
def write_annotations() -> WriteAnnotations:
    """Writes QuPath GeoJSON from (class or None, (x0, y0, x1, y1)) in drawing order."""

    def write(
        path: Path,
        boxes: Sequence[tuple[str | None, Box]],
        colors: dict[str, list[int] | int] | None = None,
    ) -> Path:
        features = []
        for name, (x0, y0, x1, y1) in boxes:
            ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
            properties: dict[str, object] = {"objectType": "annotation"}
            if name is not None:
                kind: dict[str, object] = {"name": name}
                if colors and name in colors:
                    kind["color"] = colors[name]
                properties["classification"] = kind
            features.append(
                {
                    "type": "Feature",
                    "geometry": {"type": "Polygon", "coordinates": [ring]},
                    "properties": properties,
                }
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        return path

    return write


@pytest.fixture(scope="session")
def slides_folder(
    tmp_path_factory: pytest.TempPathFactory,
    write_slide: WriteSlide,
    write_annotations: WriteAnnotations,
) -> Path:
    """Five annotated slides; read-only for tests."""
    folder = tmp_path_factory.mktemp("slides")
    for index, border_px in enumerate((128, 192, 256, 320, 384)):
        write_slide(folder / f"s{index}.tif", border_px, seed=index)
        boxes = [
            ("dark", (0, 0, border_px, SIDE_PX)),
            ("pale", (border_px, 0, SIDE_PX, SIDE_PX)),
        ]
        write_annotations(folder / f"s{index}.geojson", boxes, {"dark": [10, 20, 30]})
    return folder
