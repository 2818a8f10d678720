"""Format ``wsinfer``: the folder that WSInfer leaves, which its QuPath extension and users read."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from xt_backend.keys import PRODUCT, RESEARCH_USE, FeaturesMeta, RunMeta
from xt_backend.outputs.predictions.prediction_format import PredictionFormat, PredictionOptions
from xt_backend.outputs.regions_table import PROB_PREFIX, regions_table
from xt_backend.outputs.text import visible
from xt_backend.publishing import publish, publish_bytes
from xt_backend.store.plain import plain_json
from xt_backend.store.score_map import ScoreMap

__all__ = ["WSInfer"]

_ROWS_AT_ONCE = 4096


class WSInfer(PredictionFormat):
    """``model-outputs-csv/<slide>.csv`` and ``run_metadata_<time>.json``.

    Columns ``minx,miny,width,height,prob_<class>...``, level-0 px and full precision, a row for
    every region that has a score. The time is that at which the run was started, so that writing
    again replaces the same file.
    """

    name = "wsinfer"
    own_folder = True

    def file(self, slide_id: str, options: PredictionOptions) -> str:
        """See `PredictionFormat`."""
        return f"model-outputs-csv/{slide_id}.csv"

    def write(
        self, path: Path, score_map: ScoreMap, options: PredictionOptions, slide: Path | None
    ) -> None:
        """See `PredictionFormat`."""
        table = regions_table(score_map)
        rows = np.flatnonzero(np.isfinite(table.probabilities).all(axis=1))
        with publish(path) as temp, open(temp, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(
                ["minx", "miny", "width", "height"]
                + [PROB_PREFIX + visible(name) for name in score_map.classes]
            )
            for first in range(0, len(rows), _ROWS_AT_ONCE):
                part = rows[first : first + _ROWS_AT_ONCE]
                box = (table.minx, table.miny, table.width, table.height)
                digits = table.probabilities[part].astype(str)
                writer.writerows(
                    zip(*(side[part].tolist() for side in box), *digits.T.tolist(), strict=True)
                )

    def finish(self, out: Path, last: ScoreMap, options: PredictionOptions) -> tuple[Path, ...]:
        """See `PredictionFormat`."""
        started = str(options.run.get("started", ""))
        stamp = re.sub(r"[^0-9T]", "", started.split("+")[0]) or "unknown"
        path = out / f"run_metadata_{stamp}.json"
        publish_bytes(path, _metadata(last, options, started))
        return (path,)


def _metadata(score_map: ScoreMap, options: PredictionOptions, started: str) -> bytes:
    """No path is in it, where WSInfer has those of the model and of the call."""
    run, lattice = options.run, score_map.lattice
    numerics = score_map.run_meta.get(RunMeta.FEATURES, {}).get(FeaturesMeta.NUMERICS, {})
    transform: list[dict[str, Any]] = [
        {"name": "Resize", "arguments": {"size": lattice.region_px}},
        {"name": "ToTensor"},
    ]
    if "mean" in numerics:
        scale = {"mean": numerics["mean"], "std": numerics["std"]}
        transform.append({"name": "Normalize", "arguments": scale})
    content = {
        "model": {
            "name": score_map.model_name,
            "sha256": score_map.model_sha256,
            "config": {
                "num_classes": len(score_map.classes),
                "patch_size_pixels": lattice.region_px,
                "spacing_um_px": lattice.model_mpp,
                "class_names": list(score_map.classes),
                "transform": transform,
            },
            "huggingface_location": None,
            "path": None,
        },
        "runtime": {
            "program": PRODUCT,
            "versions": run.get("versions", {}),
            "device": run.get("device"),
            "args": None,
        },
        "timestamp": started,
        "note": RESEARCH_USE,
    }
    text = json.dumps(plain_json(content, key="run_metadata"), indent=2, ensure_ascii=False)
    return (text + "\n").encode()
