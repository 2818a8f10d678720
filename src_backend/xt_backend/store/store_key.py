"""What a region store was made from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xt_backend.store.plain import Difference, canonical_json, differences, plain_json

__all__ = ["StoreKey"]


@dataclass(frozen=True)
class StoreKey:
    """Everything that the stored tokens depend on; ROI and tissue are not among it.

    Attributes:
        slide: Identity of the slide's content; no name, path or time.
        lattice: The lattice's numbers, among them slide mpp, model mpp, region_px and stride.
        numerics: Weights' sha256, preprocessing, backend, precision, tokens per region, ...
    """

    slide: str
    lattice: Mapping[str, Any]
    numerics: Mapping[str, Any]

    def digest(self) -> str:
        """SHA-256 of the key, as 64 hex digits; the same for equal keys in any order."""
        return hashlib.sha256(canonical_json(self.to_dict()).encode()).hexdigest()

    def differences(self, other: StoreKey) -> list[Difference]:
        """The keys in which `other` (the store found) differs, such as ``numerics.precision``."""
        return differences(self.to_dict(), other.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        plain: dict[str, Any] = plain_json(
            {"slide": self.slide, "lattice": self.lattice, "numerics": self.numerics}
        )
        return plain

    @classmethod
    def from_dict(cls, values: Any) -> StoreKey:
        """The inverse of `to_dict`.

        Raises:
            ValueError: It is no such mapping.
        """
        match values:
            case {"slide": str(slide), "lattice": dict(lattice), "numerics": dict(numerics)}:
                return cls(slide, lattice, numerics)
        raise ValueError(f"no store key: {str(values)[:80]}")
