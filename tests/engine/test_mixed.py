"""Encoders whose first layers are exact and whose others are computed in bf16."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from xt_backend.engine import Device
from xt_backend.engine.encoders import Way, choose
from xt_backend.engine.encoders.make import make_backend
from xt_backend.engine.encoders.mixed import with_exact_start
from xt_backend.engine.encoders.openvino_cpu import EXACT_SHARE, openvino_precisions
from xt_backend.engine.encoders.probing import run_through
from xt_backend.model import build_region_encoder

CPU = Device("cpu", "fp32", "test")
LAYERS = (
    "Parameter",
    "Const",
    "Convolution",
    "Add",
    "Const",
    "GroupConvolution",
    "MatMul",
    "Result",
)


def structure(*, marked: str = "") -> bytes:
    """A model of these layers; one of them has marks of its own already."""
    root = ElementTree.Element("net")
    layers = ElementTree.SubElement(root, "layers")
    for kind in LAYERS:
        layer = ElementTree.SubElement(layers, "layer", {"type": kind})
        if kind == marked:
            marks = ElementTree.SubElement(layer, "rt_info")
            ElementTree.SubElement(marks, "attribute", {"name": "other", "version": "1"})
    return ElementTree.tostring(root)


def exact(model: bytes) -> list[str]:
    return [
        str(layer.get("type"))
        for layer in ElementTree.fromstring(model).findall("layers/layer")
        if layer.find("rt_info/attribute[@name='precise']") is not None
    ]


@pytest.mark.parametrize(
    ("share", "wanted"),
    [
        (0, []),
        (0.4, ["Convolution", "Add"]),
        (0.7, ["Convolution", "Add", "GroupConvolution"]),
        (1, ["Convolution", "Add", "GroupConvolution", "MatMul"]),
    ],
)
def test_a_share_of_the_layers_with_weights_is_exact_and_all_between(
    share: float, wanted: list[str]
) -> None:
    assert exact(with_exact_start(structure(), share)) == wanted


def test_marks_that_are_there_stay() -> None:
    found = with_exact_start(structure(marked="Add"), 1)
    assert b'name="other"' in found
    assert "Add" in exact(found)


@pytest.fixture(scope="module")
def trained() -> tuple[Any, Any]:
    """An encoder with ImageNet weights, and 32 regions of a sample slide."""
    pytest.importorskip("openvino", reason="needs the extra cpu")
    if "mixed" not in openvino_precisions():
        pytest.skip("this processor has no bf16")
    from xt_backend.engine.encoders.calibration import calibration_pixels

    net = build_region_encoder(
        "tf_efficientnet_lite0", region_px=256, weights="pretrained", offline=True
    )
    return net, calibration_pixels(256)[::2]


def test_mixed_is_nearer_to_the_truth_than_bf16_and_further_than_fp32(
    trained: tuple[Any, Any],
) -> None:
    net, pixels = trained
    ways = [Way("torch", "fp32"), *(Way("openvino", name) for name in ("fp32", "mixed", "bf16"))]
    truth, full, mixed, half = (
        run_through(make_backend(net, CPU, way, None), pixels).astype(np.float64) for way in ways
    )
    spread = np.linalg.norm(truth - truth.mean(axis=0))
    off = [float(np.linalg.norm(one - truth) / spread) for one in (full, mixed, half)]
    assert off[0] < off[1] < 0.75 * off[2]


def test_what_was_exact_stands_in_the_numerics(trained: tuple[Any, Any]) -> None:
    net, _ = trained
    told = make_backend(net, CPU, Way("openvino", "mixed"), None).numerics()
    assert (told["precision"], told["fp32_share"]) == ("mixed", EXACT_SHARE)
    assert "fp32_share" not in make_backend(net, CPU, Way("openvino", "bf16"), None).numerics()


@pytest.mark.parametrize(("asked", "tried"), [("auto", True), ("bf16", False), ("fp32", False)])
def test_mixed_is_tried_where_no_precision_was_asked_for(
    asked: str, tried: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose, "openvino_precisions", lambda: ("fp32", "mixed", "bf16"))
    monkeypatch.setattr(choose, "_computes_bf16", lambda: False)
    ways = choose._others(CPU, "auto", asked, Way("torch", "fp32"))
    assert (Way("openvino", "mixed") in ways) == tried
    if tried:  # the more exact ones first
        assert [way.precision for way in ways] == ["fp32", "mixed", "bf16"]


def test_a_way_is_read_from_what_a_run_tells() -> None:
    told = {"backend": "openvino", "precision": "mixed", "batch": 2, "fp32_share": 0.375}
    assert Way.from_dict(told) == Way("openvino", "mixed")
