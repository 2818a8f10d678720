"""Encoders in 8-bit integers: asked for, calibrated on the same pictures everywhere, and told."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xt_backend
from xt_backend.engine import BatchEncoder, Device, Way
from xt_backend.engine.encoders import calibration, check_backend, choose, openvino_model
from xt_backend.engine.encoders.calibration import calibration_numerics, calibration_pixels
from xt_backend.engine.encoders.probing import run_through
from xt_backend.errors import DeviceError
from xt_backend.model import build_region_encoder

CPU = Device("cpu", "fp32", "test")
INT8 = Way("openvino-int8", "int8")
needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="the extra cpu is not installed"
)


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that could."""
    monkeypatch.setattr(choose, "_has", lambda name: True)
    monkeypatch.setattr(choose, "_computes_int8", lambda: True)


@pytest.fixture
def stand_in(able: None, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """NNCF that changes nothing; told what it is calibrated on."""
    seen: list[Any] = []

    def quantised(structure: bytes, weights: bytes, batches: Any) -> tuple[bytes, bytes]:
        seen.append(batches)
        return structure, weights

    monkeypatch.setattr(openvino_model, "quantised", quantised)
    monkeypatch.setattr(calibration, "version", lambda name: "0")
    calibration_numerics.cache_clear()
    return seen


@pytest.mark.usefixtures("able")
def test_it_is_refused_where_it_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    check_backend("openvino-int8", CPU)
    with pytest.raises(DeviceError, match="--device cpu"):
        check_backend("openvino-int8", Device("cuda:0", "fp16", "test"))
    with pytest.raises(DeviceError, match="Leave --precision out"):
        check_backend("openvino-int8", Device("cpu", "bf16", "test"))
    monkeypatch.setattr(choose, "_computes_int8", lambda: False)
    with pytest.raises(DeviceError, match="no VNNI"):
        check_backend("openvino-int8", CPU)
    monkeypatch.setattr(choose, "_has", lambda name: name != "nncf")
    with pytest.raises(DeviceError, match=r"napari-xt\[int8\]"):
        check_backend("openvino-int8", CPU)


@pytest.mark.usefixtures("able")
def test_it_is_never_tried_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "_openvino_precisions", lambda: ("fp32", "fp16", "bf16"))
    tried = choose._others(CPU, "auto", "auto", Way("torch", "fp32"))
    assert tried
    assert all(way.precision != "int8" for way in tried)


@pytest.mark.parametrize("region_px", [64, 256, 1100])
def test_calibration_shows_tissue_and_glass(region_px: int) -> None:
    pixels = calibration_pixels(region_px)
    assert pixels.shape == (64, region_px, region_px, 3)
    assert pixels.dtype == np.uint8
    assert len(np.unique(pixels.reshape(64, -1)[:, :999], axis=0)) >= (4 if region_px > 512 else 60)
    brightness = pixels.mean(axis=(1, 2, 3))
    assert brightness.min() < 200
    assert region_px > 256 or brightness.max() > 225
    calibration_pixels.cache_clear()
    np.testing.assert_array_equal(pixels, calibration_pixels(region_px))


@needs_openvino
def test_calibration_is_part_of_the_numerics_and_of_run_json(
    tissue_slide: Path, tiny_model: Path, tmp_path: Path, stand_in: list[Any]
) -> None:
    options: dict[str, Any] = {"encoder_backend": "openvino-int8", "cache": tmp_path / "cache"}
    run = xt_backend.score(tissue_slide, str(tiny_model), tmp_path / "run", **options)
    assert run.exit_code == 0
    assert [batches.shape for batches in stand_in] == [(32, 2, 64, 64, 3)]
    np.testing.assert_array_equal(stand_in[0].reshape(64, 64, 64, 3), calibration_pixels(64))
    said = json.loads((tmp_path / "run" / "run.json").read_text())
    told = said["configuration"]["encoder"]
    assert (told["backend"], told["precision"]) == ("openvino-int8", "int8")
    assert told["calibration"] == calibration_numerics(64)
    assert len(told["calibration"]["sha256"]) == 64
    assert said["encoder"]["reason"] == "asked for"
    # Neither its features nor its model are taken for another's, and both are kept.
    again = xt_backend.score(tissue_slide, str(tiny_model), tmp_path / "run", **options)
    assert (again.rows[0].cache, len(stand_in)) == ("hit", 1)
    plain = xt_backend.score(tissue_slide, str(tiny_model), cache=tmp_path / "cache")
    assert plain.rows[0].cache == "miss"


@needs_openvino
@pytest.mark.usefixtures("stand_in")
def test_what_breaks_is_told(
    tissue_slide: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_model, "quantised", calibration.quantised)
    broken = tmp_path / "broken.py"
    broken.write_text("raise ImportError('/home/alice')")
    monkeypatch.setattr(calibration, "_CHILD", broken)
    options: dict[str, Any] = {"encoder_backend": "openvino-int8", "use_cache": False}
    run = xt_backend.score(tissue_slide, str(tiny_model), tmp_path / "run", **options)
    (row,) = run.rows
    assert row.status == "failed"
    assert row.reason.startswith("openvino-int8 int8 cannot be used now")
    assert "alice" not in row.reason


@needs_openvino
@pytest.mark.skipif(
    importlib.util.find_spec("nncf") is None or not choose._computes_int8(),
    reason="the extra int8 is not installed, or this processor has no VNNI",
)
def test_it_is_near_and_the_same_every_time() -> None:
    net = build_region_encoder("convnext_atto", region_px=64, weights="random")
    pixels = calibration_pixels(64)[::3]
    truth = run_through(BatchEncoder(net, CPU).backend, pixels).astype(np.float32)
    found = [run_through(BatchEncoder(net, CPU, INT8).backend, pixels) for _ in range(2)]
    assert found[0].tobytes() == found[1].tobytes()
    off = np.linalg.norm(found[0].astype(np.float32) - truth)
    assert 0 < off < 0.5 * np.linalg.norm(truth - truth.mean(axis=0))
