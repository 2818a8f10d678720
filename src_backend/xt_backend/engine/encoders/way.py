"""One way to compute a region encoder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..device import Device

__all__ = ["BACKENDS", "Way", "usual_way"]

BACKENDS = ("torch", "torch-compile", "openvino", "openvino-int8")
_PRECISIONS = ("fp32", "mixed", "bf16", "fp16", "int8")


@dataclass(frozen=True)
class Way:
    """A backend with its numerics.

    Attributes:
        backend: One of `BACKENDS`.
        precision: ``fp32``, ``bf16`` or ``fp16``; ``mixed`` (the first layers in fp32, the rest in
            bf16) with ``openvino``, ``int8`` with ``openvino-int8``, and only there.
        batch: Regions that are computed together; None for the backend's usual number.
    """

    backend: str
    precision: str
    batch: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> Way:
        """The inverse of `to_dict`, and of what a run tells of how it encoded.

        Raises:
            ValueError: It is no such mapping.
        """
        match values:
            case {"backend": str(backend), "precision": str(precision), "batch": int() | None}:
                if backend in BACKENDS and precision in _PRECISIONS:
                    # Only torch lets the batch be chosen; others tell what theirs was.
                    chosen = values["batch"] if backend.startswith("torch") else None
                    return cls(backend, precision, chosen)
        raise ValueError(f"no way to encode: {str(values)[:80]}")

    def __str__(self) -> str:
        batch = f" by {self.batch}" if self.batch else ""
        return f"{self.backend} {self.precision}{batch}"


def usual_way(device: Device) -> Way:
    """How an encoder is computed where nothing was measured: torch, in the device's precision."""
    return Way("torch", device.precision)
