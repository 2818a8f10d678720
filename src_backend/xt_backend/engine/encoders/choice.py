"""Which way to encode was chosen, why, and where that is remembered."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from xt_backend.errors import OutputError
from xt_backend.publishing import make_folder, publish_bytes

from ..device import Device
from .way import Way

__all__ = ["EncoderChoice", "Trial", "choice_key", "keep_choice", "recall_choice"]

_log = logging.getLogger(__name__)

SCHEMA = 3


@dataclass(frozen=True)
class Trial:
    """How one way to encode did.

    Attributes:
        way: What was tried.
        regions_per_s: None where it was not timed.
        error: Length of the features' deviation from those of torch in float32, over that of
            their deviation from their mean.
        agreement: Share of regions with the same most probable class; None without classes.
        problem: Why it cannot be taken; empty where it can.
    """

    way: Way
    regions_per_s: float | None = None
    error: float | None = None
    agreement: float | None = None
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "way": self.way.to_dict()}

    @classmethod
    def from_dict(cls, values: Any) -> Trial:
        """The inverse of `to_dict`.

        Raises:
            TypeError: It is no such mapping.
            ValueError: Its way is none.
        """
        return cls(**{**values, "way": Way.from_dict(values["way"])})


@dataclass(frozen=True)
class EncoderChoice:
    """The way to encode that a run takes.

    Attributes:
        way: Backend, precision and batch.
        reason: Why, as a sentence without full stop.
        tried: What was measured; empty where nothing was.
        n_regions: On how many regions.
    """

    way: Way
    reason: str
    tried: tuple[Trial, ...] = ()
    n_regions: int = 0

    @property
    def trial(self) -> Trial | None:
        """How the way that was taken did."""
        return next((one for one in self.tried if one.way == self.way), None)

    def in_words(self) -> str:
        """What and why."""
        return f"{self.way}: {self.reason}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "way": self.way.to_dict(),
            "reason": self.reason,
            "tried": [one.to_dict() for one in self.tried],
            "n_regions": self.n_regions,
        }

    @classmethod
    def from_dict(cls, values: Any) -> EncoderChoice:
        """The inverse of `to_dict`.

        Raises:
            KeyError: Something is missing.
            TypeError: It is no such mapping.
            ValueError: Its way is none.
        """
        tried = tuple(Trial.from_dict(one) for one in values["tried"])
        n_regions = int(values["n_regions"])
        return cls(Way.from_dict(values["way"]), str(values["reason"]), tried, n_regions)


def choice_key(
    what: dict[str, Any], device: Device, backend: str, precision: str
) -> dict[str, Any]:
    """What a choice holds for: the encoder, this machine, these versions, what was asked.

    Args:
        what: Of the encoder and its weights.
        device: Where it runs.
        backend: As asked for.
        precision: As asked for.
    """
    versions = {}
    for name in ("napari-xt", "torch", "timm", "openvino"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = ""
    return {
        "encoder": what,
        "device": [device.name, _processor(device), torch.get_num_threads()],
        "versions": versions,
        "asked": [backend, precision],
        "schema": SCHEMA,
    }


def recall_choice(key: dict[str, Any]) -> EncoderChoice | None:
    """The choice that was kept for a key; None where there is none, or a damaged one."""
    path = _path(key)
    try:
        values = json.loads(path.read_bytes())
        if values["key"] == key:
            return EncoderChoice.from_dict(values["choice"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        _log.warning("%s is damaged and made anew", path.name)
    return None


def keep_choice(key: dict[str, Any], choice: EncoderChoice) -> None:
    """Remember a choice; where that cannot be written, the next run measures again."""
    path = _path(key)
    text = json.dumps({"key": key, "choice": choice.to_dict()}, indent=1)
    try:
        make_folder(path.parent)
        publish_bytes(path, text.encode())
    except OutputError as error:
        _log.warning("the choice of the encoder backend is not kept: %s", error)


def _path(key: dict[str, Any]) -> Path:
    import platformdirs

    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    folder = Path(platformdirs.user_config_dir("napari-xt", appauthor=False))
    return folder / "encoders" / f"{digest[:32]}.json"


def _processor(device: Device) -> str:
    if device.kind == "cuda":
        return torch.cuda.get_device_name(device.name)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), "")
