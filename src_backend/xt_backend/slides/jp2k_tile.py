"""JPEG 2000 tiles of Aperio's files, decoded without OpenSlide or not at all."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xt_backend.slides.jpeg_tile import DecoderFault

__all__ = ["Jp2kTiles"]

_START, _END = b"\xff\x4f\xff\x51", b"\xff\xd9"
_SIZE, _COMMENT, _TILE_PART = 0x51, 0x64, 0x90
_ALLOWED = frozenset({_SIZE, _COMMENT, 0x52, 0x53, 0x5C, 0x5D})
"""And codings and quantisations."""
_BYTE_EACH = bytes([7, 1, 1]) * 3
"""Three components of 8 bits without sign, none of them at a lower resolution."""


@dataclass(frozen=True)
class Jp2kTiles:
    """How the JPEG 2000 tiles of one image in a TIFF are decoded; they hold RGB.

    OpenSlide has the same decoder, OpenJPEG, and asks it for as much: a damaged tile fails with
    both, or has the same pixels.

    Attributes:
        width_px: Width of a tile.
        height_px: Height of a tile.
    """

    width_px: int
    height_px: int

    def decoder(self) -> str:
        """Name and version of the decoder.

        Raises:
            DecoderFault: It does not load.
        """
        try:
            import imagecodecs

            return f"imagecodecs {imagecodecs.__version__} ({imagecodecs.jpeg2k_version()})"
        except Exception as error:
            # Also where it was built without OpenJPEG.
            raise DecoderFault("imagecodecs does not load, or knows no JPEG 2000") from error

    def signature(self, data: bytes) -> bytes | None:
        """How a tile was coded and quantised; None where it is no ordinary one."""
        if not (data.startswith(_START) and data.endswith(_END)):
            return None
        coding, at = b"", 2
        while data[at : at + 1] == b"\xff" and data[at + 1] != _TILE_PART:
            marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
            payload = data[at + 4 : at + 2 + length]
            if marker not in _ALLOWED or (marker == _SIZE and not self._has_size(payload)):
                return None
            if marker not in (_SIZE, _COMMENT):
                coding += data[at : at + 4] + payload
            at += 2 + max(length, 2)
        return coding or None

    def _has_size(self, payload: bytes) -> bool:
        if len(payload) != 36 + len(_BYTE_EACH):
            return False
        side = self.width_px, self.height_px
        return payload[2:] == struct.pack(">8IH", *side, 0, 0, *side, 0, 0, 3) + _BYTE_EACH

    def decode(self, data: bytes, out: npt.NDArray[np.uint8]) -> bool:
        """Decodes a tile whose signature has been looked at.

        Args:
            data: The tile as it is in the file.
            out: (height_px, width_px, 3) uint8, contiguous; spoilt where the result is False.

        Returns:
            Whether that went well.
        """
        import imagecodecs

        try:
            imagecodecs.jpeg2k_decode(data, numthreads=1, out=out)
        except (imagecodecs.Jpeg2kError, ValueError):
            return False
        return True
