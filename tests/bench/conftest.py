"""One folder of sample slides and features for all tests of this room, and labelled images."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Call = Callable[..., Any]


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sample slides are made once."""
    return tmp_path_factory.mktemp("bench-work")


@pytest.fixture
def bench(call: Call, work: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs `napari-xt bench --quick --json` into ``tmp_path / "out"``; what it printed."""

    def run(*arguments: str | Path) -> dict[str, Any]:
        done = call(
            "bench", *arguments, "--quick", "--json", "--out", tmp_path / "out", "--work", work
        )
        assert done.returncode == 0, done.stderr
        printed: dict[str, Any] = json.loads(done.stdout)
        return printed

    return run


# The names of its documentation that are used, over plain OpenSlide.
LAZYSLIDE = """
from types import SimpleNamespace
import numpy as np
import openslide
import pandas as pd
import torch

class open_wsi(dict):
    def __init__(self, path):
        self.slide = openslide.OpenSlide(path)

def tile_tissues(wsi, tile_px, *, mpp):
    print("what a peer prints is no answer")
    assert mpp == 0.5
    width, height = wsi.slide.dimensions
    # By columns; ours go by rows.
    corners = [(x, y) for x in range(0, width, tile_px) for y in range(0, height, tile_px)]
    wsi["side"] = tile_px
    wsi["tiles"] = SimpleNamespace(bounds=pd.DataFrame(corners, columns=["minx", "miny"]) * 1.0)

@torch.inference_mode()
def feature_extraction(wsi, model, *, model_name, transform, device):
    found = []
    for place in wsi["tiles"].bounds.to_numpy(int).tolist():
        image = wsi.slide.read_region(place, 0, (wsi["side"],) * 2).convert("RGB")
        found.append(model(transform(np.asarray(image))[None])[0].numpy())
    wsi[f"{model_name}_tiles"] = SimpleNamespace(X=np.stack(found))

pp = SimpleNamespace(tile_tissues=tile_tissues)
tl = SimpleNamespace(feature_extraction=feature_extraction)
"""


@pytest.fixture
def peer_python(tmp_path: Path) -> Path:
    """The Python of an environment with a stand-in for LazySlide and a broken TIAToolbox."""
    site = tmp_path / "site"
    broken = f"raise ImportError('cannot load {tmp_path}/lib.so')\n"
    for name, version, source in (
        ("lazyslide", "0.0.1", LAZYSLIDE),
        ("tiatoolbox", "0.0.2", broken),
    ):
        (site / name).mkdir(parents=True)
        (site / name / "__init__.py").write_text(source, encoding="utf-8")
        about = site / f"{name}-{version}.dist-info"
        about.mkdir()
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (about / "METADATA").write_text(text, encoding="utf-8")
    python = tmp_path / "python"
    python.write_text(
        f"#!/bin/sh\nPYTHONPATH='{site}' exec '{sys.executable}' \"$@\"\n", encoding="utf-8"
    )
    python.chmod(0o755)
    return python


@pytest.fixture(scope="session")
def labelled_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small images under the names of the published sets; dark is tumour."""
    data = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)

    def write(path: Path, pixels: np.ndarray[Any, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)

    for shade, kind in ((90, "DARK"), (200, "PALE")):
        for number in range(2):
            tile = np.clip(rng.normal(shade, 10, (224, 224, 3)), 0, 255)
            write(data / "crc-val-he-224" / kind / f"{number}.png", tile)
    # 256 px at 0.25 um/px: one region of 64 um; 128 px at 1 um/px: four of them.
    for folder, names, side in (
        ("bcss-roi", ("a",), 256),
        ("camelyon-512", tuple("bcdefg"), 128),
    ):
        for name in names:
            mask = np.zeros((side, side))
            mask[:, : side // 2] = 255
            image = np.where(mask[..., None] > 0, 90, 200) + rng.normal(0, 10, (side, side, 3))
            write(data / folder / "images" / f"{name}.png", np.clip(image, 0, 255))
            write(data / folder / "masks" / f"{name}.png", mask)
    return data
