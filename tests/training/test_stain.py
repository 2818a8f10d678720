"""Stain normalisation from training to score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.training import tiny_training

from xt_backend import score
from xt_backend.engine import BatchEncoder
from xt_backend.errors import AnnotationError
from xt_backend.model import load_model
from xt_backend.training import EvaluateSpec, TrainSpec, evaluate, train

from .conftest import SIDE_PX, WriteAnnotations, WriteSlide


def make_spec(folder: Path, out: Path, **changes: Any) -> TrainSpec:
    settings = {"cache": out.parent / "cache", "epochs": 2, **changes}
    return tiny_training(folder, out, **settings)


@pytest.mark.parametrize("changes", [{}, {"end_to_end": True, "epochs": 1}])
def test_recorded_in_the_model_and_applied_everywhere(
    slides_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    spec = make_spec(slides_folder, tmp_path / "m.safetensors", stain="reinhard", **changes)
    seen: list[np.ndarray] = []
    encode = BatchEncoder.encode

    def watch(self: BatchEncoder, pixels: np.ndarray) -> np.ndarray:
        seen.append(pixels.reshape(-1, 3).mean(axis=0))
        return encode(self, pixels)

    monkeypatch.setattr(BatchEncoder, "encode", watch)
    train(spec)
    card = load_model(spec.out).card
    assert card.stain is not None
    assert card.stain.method == "reinhard"
    assert len(card.stain.target["mean"]) == 3
    slide = slides_folder / "s0.tif"
    options = {"slide_mpp": 1.0, "tissue": "all"}

    def scored(name: str) -> tuple[np.ndarray, list[float]]:
        seen.clear()
        run = score(slide, str(spec.out), tmp_path / name, cache=tmp_path / name, **options)
        columns = [name for name in run.regions.columns if name.startswith("prob_")]
        return np.mean(seen, axis=0), run.regions[columns].to_numpy().ravel().tolist()

    mean, probabilities = scored("a")
    again, same = scored("b")
    assert np.array_equal(mean, again)
    assert probabilities == same
    # What the encoder sees is not what lies in the file: s0 is three quarters pale.
    plain = np.array([0.25 * np.array((96, 40, 120)) + 0.75 * np.array((230, 160, 190))])
    assert np.abs(mean - plain).max() > 3
    report = evaluate(
        EvaluateSpec(
            model=str(spec.out), slides=slide, annotations=slides_folder, cache=tmp_path / "a",
            bootstrap=0, **options,
        )
    )  # fmt: skip
    assert report.context.n_regions == 64
    seen.clear()
    score(slide, str(spec.out), tmp_path / "c", cache=tmp_path / "a", **options)
    assert seen == []


def test_features_of_other_stains_are_never_reused(slides_folder: Path, tmp_path: Path) -> None:
    counts = []
    encoded = 0
    encode = BatchEncoder.encode

    def watch(self: BatchEncoder, pixels: np.ndarray) -> np.ndarray:
        nonlocal encoded
        encoded += len(pixels)
        return encode(self, pixels)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BatchEncoder, "encode", watch)
        for stain in (None, "macenko", "reinhard", None, "macenko"):
            encoded = 0
            train(make_spec(slides_folder, tmp_path / "m.safetensors", stain=stain, epochs=1))
            counts.append(encoded)
    assert counts == [320, 320, 320, 0, 0]


def test_slides_without_stain_are_refused(
    tmp_path: Path, write_slide: WriteSlide, write_annotations: WriteAnnotations
) -> None:
    import tifffile

    for name in "ab":
        tifffile.imwrite(
            tmp_path / f"{name}.tif",
            np.full((SIDE_PX, SIDE_PX, 3), 240, np.uint8),
            tile=(128, 128),
            photometric="rgb",
        )
        boxes = [("dark", (0, 0, 256, SIDE_PX)), ("pale", (256, 0, SIDE_PX, SIDE_PX))]
        write_annotations(tmp_path / f"{name}.geojson", boxes)
    with pytest.raises(AnnotationError, match="stained enough"):
        train(make_spec(tmp_path, tmp_path / "m.safetensors", stain="macenko"))
