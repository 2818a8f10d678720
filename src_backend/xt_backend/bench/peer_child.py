"""A peer's way from a slide to features, run by the Python of the environment that has the peer.

That environment need not have this package: nothing of it is imported here, and the peer is used as
its documentation shows, with its defaults. The first line on stdin says what to do; then every line
is a job, answered by one line of JSON. What the peer itself prints goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO


def main() -> None:
    """Answer jobs until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    wanted: dict[str, Any] = json.loads(sys.stdin.readline())
    found: dict[str, Any] = {}
    try:
        walk = {"lazyslide": _lazyslide, "tiatoolbox": _tiatoolbox}[wanted["peer"]](wanted)
    except Exception as error:
        _say(answers, _failure(error))
        return
    _say(answers, {"ready": True})
    for line in sys.stdin:
        try:
            if line.strip() == "run":
                started = time.perf_counter()
                features, places = walk()
                seconds = time.perf_counter() - started
                found = {"features": features, "places": places}
                _say(answers, {"seconds": seconds, "regions": len(features)})
            else:
                _keep(Path(wanted["folder"], f"{wanted['peer']}.npz"), found)
                _say(answers, {"kept": True})
        # Whatever a peer raises is what is to be told of it.
        except Exception as error:
            _say(answers, _failure(error))


def _say(answers: TextIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _failure(error: Exception) -> dict[str, Any]:
    return {"failed": f"{type(error).__name__}: {error}"}


def _keep(path: Path, found: dict[str, Any]) -> None:
    """Features (n, D) float32, and where their regions begin: (n, 2) int64 of x, y, level-0 px."""
    import numpy as np

    features = np.asarray(found["features"], np.float32)
    np.savez(path, features=features, places=np.asarray(found["places"]).astype(np.int64))


def _encoder(wanted: dict[str, Any]) -> Any:
    import timm

    net = timm.create_model(
        wanted["encoder"], num_classes=0, checkpoint_path=wanted["folder"] + "/encoder.safetensors"
    )
    return net.eval()


def _lazyslide(wanted: dict[str, Any]) -> Callable[[], tuple[Any, Any]]:
    import lazyslide
    import torch
    from torchvision.transforms import v2

    transform = v2.Compose(
        [
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(wanted["mean"], wanted["std"]),
        ]
    )
    net = _encoder(wanted)

    def walk() -> tuple[Any, Any]:
        # Without a search for tissue its tiles cover the whole slide.
        wsi = lazyslide.open_wsi(wanted["slide"])
        lazyslide.pp.tile_tissues(wsi, wanted["region_px"], mpp=wanted["mpp"])
        lazyslide.tl.feature_extraction(
            wsi, net, model_name="encoder", transform=transform, device="cpu"
        )
        return wsi["encoder_tiles"].X, wsi["tiles"].bounds[["minx", "miny"]].to_numpy().round()

    return walk


def _tiatoolbox(wanted: dict[str, Any]) -> Callable[[], tuple[Any, Any]]:
    import numpy as np
    import torch
    from tiatoolbox.models.engine.deep_feature_extractor import DeepFeatureExtractor
    from tiatoolbox.models.engine.io_config import IOPatchPredictorConfig
    from tiatoolbox.models.models_abc import ModelABC

    mean, std = (np.asarray(wanted[name], np.float32) for name in ("mean", "std"))

    class Encoder(ModelABC):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = _encoder(wanted)

        def forward(self, images: Any) -> Any:
            return self.net(images)

        @staticmethod
        def preproc(image: Any) -> Any:
            return (np.asarray(image, np.float32) / 255 - mean) / std

        @staticmethod
        def infer_batch(model: Any, batch_data: Any, device: str) -> Any:
            images = batch_data.to(device).type(torch.float32).permute(0, 3, 1, 2)
            with torch.inference_mode():
                return [model(images).cpu().numpy()]

    import zarr

    resolution = [{"units": "mpp", "resolution": wanted["mpp"]}]
    side = (wanted["region_px"], wanted["region_px"])
    places = IOPatchPredictorConfig(
        input_resolutions=resolution,
        output_resolutions=resolution,
        patch_input_shape=side,
        stride_shape=side,
    )
    extractor = DeepFeatureExtractor(Encoder())

    def walk() -> tuple[Any, Any]:
        with tempfile.TemporaryDirectory() as folder:
            kept = extractor.run(
                [wanted["slide"]],
                patch_mode=False,
                ioconfig=places,
                auto_get_mask=False,
                save_dir=Path(folder, "out"),
                output_type="zarr",
            )
            (path,) = kept.values()
            group = zarr.open(str(path), mode="r")
            return group["features"][:], group["coordinates"][:, :2]

    return walk


if __name__ == "__main__":
    main()
