"""Turn a model of OpenVINO into 8-bit integers: ``python -P quantise_child.py FOLDER``.

Runs in a process of its own, because NNCF writes to stdout, changes the log and sends word of its
use to the internet. It imports nothing of this package. FOLDER holds ``model.xml`` with its weights
and ``batches.npy``, and gets ``int8.xml`` with its own.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np


def main(folder: Path) -> None:
    """Quantise."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    nncf, openvino = (importlib.import_module(name) for name in ("nncf", "openvino"))
    model = openvino.Core().read_model(folder / "model.xml")
    batches = list(np.load(folder / "batches.npy"))
    attends = any(op.get_type_name() == "Softmax" for op in model.get_ops())
    found = nncf.quantize(
        model,
        nncf.Dataset(batches),
        subset_size=len(batches),
        model_type=nncf.ModelType.TRANSFORMER if attends else None,
    )
    openvino.save_model(found, folder / "int8.xml", compress_to_fp16=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
