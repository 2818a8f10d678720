"""Models of OpenVINO of which the first layers are computed exactly, whatever the rest is."""

from __future__ import annotations

from xml.etree import ElementTree

__all__ = ["with_exact_start"]

_WITH_WEIGHTS = ("Convolution", "GroupConvolution", "MatMul")
_NOT_COMPUTED = ("Parameter", "Const", "Result")
_EXACT = {"name": "precise", "version": "0"}
"""By which OpenVINO's files mark a layer that is not to be computed in half precision (the runtime
attribute of `ov::disable_fp16_compression`); its CPU plugin heeds it in bf16 too."""


def with_exact_start(structure: bytes, share: float) -> bytes:
    """A model whose first layers stay in fp32 where it is compiled for bf16.

    Args:
        structure: Of the model, XML as OpenVINO writes it: layers in the order of computing.
        share: Of the layers with weights (convolutions, products of matrices), 0 to 1, that are
            exact with all that lies before and between them.

    Returns:
        The same with these layers marked.
    """
    # OpenVINO wrote it here, or it came from a file whose hash agrees.
    model = ElementTree.fromstring(structure)  # nosec B314
    layers = model.findall("layers/layer")
    weighted = [i for i, layer in enumerate(layers) if layer.get("type") in _WITH_WEIGHTS]
    n_exact = int(len(weighted) * share)
    end = weighted[n_exact] if n_exact < len(weighted) else len(layers)
    for layer in layers[:end]:
        if layer.get("type") in _NOT_COMPUTED:
            continue
        marks = layer.find("rt_info")
        if marks is None:
            marks = ElementTree.SubElement(layer, "rt_info")
        ElementTree.SubElement(marks, "attribute", _EXACT)
    return ElementTree.tostring(model)
