"""One folder of sample slides and features for all tests of this room, and labelled images."""

from __future__ import annotations

import json
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
