"""Models and region encoders of the hub, brought to this computer once for all."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from xt_backend.errors import ModelError
from xt_backend.model.backbone import find_architecture
from xt_backend.model.card import CARD_KEY, EncoderInfo
from xt_backend.model.files import load_model
from xt_backend.model.header import file_sha256, read_card, read_header
from xt_backend.model.hub import HubName, hub_file, hub_licence
from xt_backend.model.library import SUFFIX, list_models, models_folder
from xt_backend.model.region_encoders import build_region_encoder
from xt_backend.publishing import make_folder, publish

__all__ = ["Fetched", "fetch_model"]

_PX = 224
_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class Fetched:
    """Something that needs no network any more.

    Attributes:
        name: As commands take it.
        kind: What it is: ``model`` for ``--model``, ``region encoder`` for ``--encoder``.
        source: Where it came from.
        revision: The commit, or the hash of a file; empty where there is neither.
        sha256: Of a model's file, of an encoder's weights.
        licence: Of these weights; empty where it is stated nowhere.
    """

    name: str
    kind: Literal["model", "region encoder"]
    source: str
    revision: str
    sha256: str
    licence: str


def fetch_model(name: str, *, offline: bool | None = None) -> Fetched:
    """Bring a model or the weights of a region encoder here, and see that they can be used.

    Args:
        name: A known model, whose region encoder is fetched where its file does not hold it; a
            region encoder as of `build_region_encoder`; or ``hf-hub:owner/name[@revision]``, which
            may be either. A model of the hub is put into the user's own folder of models and goes
            by the repository's name from then on.
        offline: See `hub_file`.

    Raises:
        ModelError: It is not to be had or cannot be used, or another model has its name.
        OutputError: The model cannot be written.
    """
    for entry in list_models():
        if entry.name == name:
            return _known(name, entry.path, entry.source, offline)
    hub = HubName.parse(name, None)
    if hub is not None:
        found = hub_file(hub, _FILES, offline=offline)
        if found.path.suffix == SUFFIX and CARD_KEY in read_header(found.path).metadata:
            return _install(HubName(hub.repository, found.revision), found.path, offline)
    region_px = find_architecture(name, offline=offline).native_px or _PX
    info = build_region_encoder(name, region_px=region_px, offline=offline).info
    return _of_encoder(name, info)


def _known(name: str, path: Path, source: str, offline: bool | None) -> Fetched:
    """A model that has a name already."""
    card = read_card(path)
    if not card.region_encoder.embedded:
        load_model(path, offline=offline)
    return Fetched(name, "model", source, "", file_sha256(path), card.licence)


def _install(hub: HubName, found: Path, offline: bool | None) -> Fetched:
    """Copy a model from the hub's cache to where models have names."""
    card = load_model(found, offline=offline).card
    name = hub.repository.partition("/")[2]
    target, sha256 = models_folder() / f"{name}{SUFFIX}", file_sha256(found)
    taken = [entry for entry in list_models() if entry.name == name]
    if taken and file_sha256(taken[0].path) != sha256:
        raise ModelError(
            f"There is another model named {name} ({taken[0].source})",
            "it can be used all the same by the path of its file"
            if taken[0].source == "bundled"
            else "remove or rename that one first",
        )
    if not taken:
        make_folder(target.parent)
        with publish(target, needed_bytes=found.stat().st_size) as temp:
            shutil.copyfile(found, temp)
    licence = card.licence or hub_licence(hub, offline=offline)
    return Fetched(name, "model", f"hf-hub:{hub.repository}", hub.revision or "", sha256, licence)


def _of_encoder(name: str, info: EncoderInfo) -> Fetched:
    return Fetched(name, "region encoder", info.source, info.revision, info.sha256, info.licence)
