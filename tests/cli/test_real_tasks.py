"""Train, evaluate and score for every task, on real labelled histology, as a user does it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import tifffile
from PIL import Image
from scipy import ndimage
from skimage.color import rgb2hed
from skimage.feature import peak_local_max

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

Call = Callable[..., Any]
Array = np.ndarray[Any, Any]

CROP_PX = 1024
CLASSES = "0=other,255=tumour"


def picture(path: Path) -> Array:
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.fixture
def tumours(call: Call, shared_data: Path, tmp_path: Path) -> Path:
    """``train``: four crops of one breast tumour; ``test``: another tumour. With outlines."""
    source = shared_data / "bcss-roi"
    for part in ("train", "test"):
        for kind in ("images", "masks"):
            (tmp_path / part / kind).mkdir(parents=True)
    for kind, suffix in (("images", "jpg"), ("masks", "png")):
        whole = np.asarray(Image.open(source / kind / f"1015.{suffix}"))
        for number in range(4):
            crop = whole[:, number * CROP_PX : (number + 1) * CROP_PX]
            Image.fromarray(crop).save(tmp_path / "train" / kind / f"crop{number}.png")
        other = np.asarray(Image.open(source / kind / f"1008.{suffix}"))
        Image.fromarray(other).save(tmp_path / "test" / kind / "roi.png")
    for part in ("train", "test"):
        folder = tmp_path / part
        arguments = ("--masks", folder / "masks", "--mpp", "0.25", "--classes", CLASSES)
        done = call("import", folder / "images", *arguments, "--out", folder / "slides")
        assert done.returncode == 0, done.stderr
    return tmp_path


def learn(call: Call, folder: Path, task: str, *more: str | Path) -> Path:
    """Train on `train`, and return the model."""
    model = folder / f"{task}.safetensors"
    done = call(
        "train", "--slides", folder / "train/slides", "--out", model, "--task", task,
        "--context", "mamba2", "--tissue", "all", "--device", "cpu", *more,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return model


def measured(call: Call, model: Path, slides: Path, *more: str | Path) -> dict[str, Any]:
    """What `evaluate` finds on slides that the model has not seen."""
    done = call(
        "evaluate", "--model", model, "--slides", slides, "--tissue", "all", "--json", *more
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def scored(call: Call, model: Path, slides: Path, out: Path) -> dict[str, str]:
    """The row of the first slide, scored."""
    done = call("score", slides, "--model", model, "--out", out, "--tissue", "all")
    assert done.returncode == 0, done.stderr
    with (out / "slides.csv").open(encoding="utf-8", newline="") as file:
        row = next(iter(csv.DictReader(file)))
    assert row["status"] == "done"
    return row


def test_regions(call: Call, tumours: Path) -> None:
    model = learn(call, tumours, "region", "--epochs", "40")
    found = measured(call, model, tumours / "test/slides", "--compare-context")
    assert found["context"]["auroc"]["tumour"]["value"] > 0.6
    row = scored(call, model, tumours / "test/slides", tumours / "run")
    assert 0 < float(row["fraction_tumour"]) < 1
    assert (tumours / "run" / "roi.geojson").is_file()


def test_masks(call: Call, tumours: Path) -> None:
    model = learn(call, tumours, "dense", "--epochs", "15")
    found = measured(call, model, tumours / "test/slides")
    assert found["pixels"]["dice"]["tumour"]["value"] > 0.4
    scored(call, model, tumours / "test/slides", tumours / "run")
    mask = tifffile.imread(tumours / "run" / "roi.mask.ome.tiff")
    true = np.asarray(Image.open(tumours / "test/masks/roi.png").resize(mask.shape[::-1])) > 127
    assert true[mask == 2].mean() > true[mask == 1].mean() + 0.1


def test_points(call: Call, tumours: Path) -> None:
    """Nuclei, marked where haematoxylin peaks."""
    true = {}
    for part in ("train", "test"):
        for path in sorted((tumours / part / "images").iterdir()):
            stained = ndimage.gaussian_filter(rgb2hed(picture(path))[..., 0], 6)
            least = float(np.quantile(stained, 0.75))
            peaks = peak_local_max(stained, min_distance=10, threshold_abs=least)
            true[path.stem] = len(peaks)
            features = [
                {
                    "type": "Feature",
                    "geometry": shapely.geometry.mapping(shapely.Point(float(x), float(y))),
                    "properties": {
                        "objectType": "annotation",
                        "classification": {"name": "nucleus"},
                    },
                }
                for y, x in peaks
            ]
            text = json.dumps({"type": "FeatureCollection", "features": features})
            (tumours / part / "slides" / f"{path.stem}.geojson").write_text(text)
    model = learn(call, tumours, "detection", "--epochs", "15", "--peak-radius-um", "3")
    found = measured(call, model, tumours / "test/slides", "--distance-um", "5")
    assert found["pixels"]["f1"]["nucleus"]["value"] > 0.5
    scored(call, model, tumours / "test/slides", tumours / "run")
    points = json.loads((tumours / "run" / "roi.points.geojson").read_text())["features"]
    assert len(points) == pytest.approx(true["roi"], rel=0.5)


@pytest.mark.parametrize("head", ["class-token", "attention-mil"])
def test_whole_slides(call: Call, shared_data: Path, tmp_path: Path, head: str) -> None:
    """Colon: tumour or fat, one label a slide, each slide of another patient."""
    rows: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
    for part in rows:
        (tmp_path / part / "images").mkdir(parents=True)
    for name, label in (("TUM", "tumour"), ("ADI", "fat")):
        paths = sorted((shared_data / "crc-val-he-224" / name).glob("*.jpg"))
        for number, path in enumerate(paths):
            part = "train" if number < 5 else "test"
            Image.open(path).save(tmp_path / part / "images" / f"{label}{number}.png")
            rows[part].append((f"{label}{number}.tiff", label))
    for part, of_part in rows.items():
        folder = tmp_path / part
        done = call("import", folder / "images", "--mpp", "0.5", "--out", folder / "slides")
        assert done.returncode == 0, done.stderr
        with (folder / "labels.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("slide", "label"), *of_part])
    labels = ("--labels", tmp_path / "train/labels.csv", "--region-px", "64", "--epochs", "60")
    model = learn(call, tmp_path, "slide", "--slide-head", head, *labels)
    found = measured(
        call, model, tmp_path / "test/slides", "--labels", tmp_path / "test/labels.csv"
    )
    assert found["context"]["auroc"]["tumour"]["value"] == 1
    row = scored(call, model, tmp_path / "test/slides", tmp_path / "run")
    assert row["predicted"] == ("tumour" if row["slide"].startswith("tumour") else "fat")
