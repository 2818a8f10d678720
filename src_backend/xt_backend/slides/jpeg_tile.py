"""JPEG tiles of TIFF files, decoded without OpenSlide or not at all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["ColorSpace", "DecoderError", "DecoderFault", "JpegTiles", "decoder_version"]

ColorSpace = Literal["RGB", "YCbCr"]

_SOI, _SOS, _APP0, _APP14 = b"\xff\xd8", 0xDA, 0xE0, 0xEE
_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
_IN_TABLES = frozenset({0xDB, 0xC4, 0xFE, *range(0xE1, 0xEE), 0xEF})
"""Markers whose effect outlives the end of a tables-only stream, and those without one."""
_BARE = frozenset({0x01, *range(0xD0, 0xDA)})
_ADOBE = b"Adobe\0\x64\0\0\0\0"
_RGB_IDS = b"RGB"
_MOST_HEADS = 4


class DecoderError(Exception):
    """Direct decoding is out of the question; the text says why."""


class DecoderFault(DecoderError):
    """The decoder is missing, broken or wrong, so that every slide of its kind is read slowly."""


class Signature(NamedTuple):
    """What decides how a JPEG decoder goes about a tile, besides its tables.

    Attributes:
        frame: Marker of the frame.
        components: Number, sampling and tables of the components, as they are in the stream.
        jfif: Whether there is a JFIF marker.
        adobe: Colour transform of the Adobe marker, -1 without one.
    """

    frame: int
    components: bytes
    jfif: bool
    adobe: int


@dataclass(frozen=True)
class JpegTiles:
    """How the JPEG tiles of one image in a TIFF are decoded.

    Attributes:
        width_px: Width of a tile.
        height_px: Height of a tile.
        space: Colour space that the TIFF states. What the JPEG's own markers say does not count
            for OpenSlide; a tile that would be taken for another one is refused.
        prefix: What stands before each tile's own markers: shared tables and the colour space.
    """

    width_px: int
    height_px: int
    space: ColorSpace
    prefix: bytes
    _heads: list[tuple[bytes, Signature]] = field(
        default_factory=list, init=False, repr=False, compare=False
    )
    """Beginnings of tiles that were looked at: those of a slide mostly are the same."""

    @classmethod
    def for_page(
        cls, width_px: int, height_px: int, space: ColorSpace, tables: bytes | None
    ) -> JpegTiles:
        """Checks the tables that the tiles share.

        Args:
            width_px: Width of a tile.
            height_px: Height of a tile.
            space: Colour space that the TIFF states.
            tables: A tables-only JPEG stream, or None.

        Raises:
            DecoderError: The tables hold what would act otherwise when put before a tile.
        """
        body = b"" if not tables else _tables_body(tables)
        if space == "RGB":
            body += b"\xff\xee" + (len(_ADOBE) + 3).to_bytes(2, "big") + _ADOBE + b"\0"
        return cls(width_px, height_px, space, _SOI + body if body else b"")

    def decoder(self) -> str:
        """Name and version of the decoder.

        Raises:
            DecoderFault: It is not installed, or does not load.
        """
        return f"simplejpeg {decoder_version()}"

    def signature(self, data: bytes) -> Signature | None:
        """Reads a tile's markers; None where they are not those of an ordinary tile."""
        for head, found in self._heads:
            if data.startswith(head):
                return found
        try:
            return self._signature(data)
        except IndexError:
            return None

    def _signature(self, data: bytes) -> Signature | None:
        if data[:2] != _SOI:
            return None
        frame, components, jfif, adobe, at = 0, b"", False, -1, 2
        while True:
            if data[at] != 0xFF or data[at + 1] in _BARE or data[at + 1] == 0xFF:
                return None
            marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
            if marker == _SOS:
                break
            payload = data[at + 4 : at + 2 + length]
            if marker in _FRAMES:
                size = int.from_bytes(payload[3:5], "big"), int.from_bytes(payload[1:3], "big")
                if frame or payload[0] != 8 or size != (self.width_px, self.height_px):
                    return None
                frame, components = marker, payload[5:]
            elif marker == _APP0:
                jfif |= payload[:5] == b"JFIF\0"
            elif marker == _APP14 and payload[:5] == b"Adobe":
                adobe = payload[11]
            at += 2 + length
        if not frame or len(components) != 10 or components[0] != 3:
            return None
        found = Signature(frame, components, jfif, adobe)
        if not self._has_color(found):
            return None
        if len(self._heads) < _MOST_HEADS:
            self._heads.append((data[: at + 2], found))
        return found

    def _has_color(self, found: Signature) -> bool:
        """Whether the decoder takes the tile for what the TIFF says."""
        if self.space == "RGB":
            return not found.jfif and found.adobe in (-1, 0)
        named_rgb = found.components[1::3] == _RGB_IDS
        return found.jfif or found.adobe == 1 or (found.adobe == -1 and not named_rgb)

    def decode(self, data: bytes, out: npt.NDArray[np.uint8]) -> bool:
        """Decodes a tile whose signature has been looked at.

        Args:
            data: The tile as it is in the file.
            out: (height_px, width_px, 3) uint8, contiguous; spoilt where the result is False.

        Returns:
            Whether that went without the slightest warning. OpenSlide refuses a tile that its
            decoder warns about; the same decoder would otherwise make up what is missing.
        """
        import simplejpeg

        if self.prefix:
            data = self.prefix + data[2:]
        try:
            simplejpeg.decode_jpeg(data, "RGB", buffer=out, strict=True)
        except ValueError:
            return False
        return True


def decoder_version() -> str:
    """Version of the decoder.

    Raises:
        DecoderFault: It is not installed, or does not load.
    """
    try:
        import simplejpeg

        decode: Any = simplejpeg.decode_jpeg
        if not callable(decode):
            raise TypeError("decode_jpeg is no function")
    except ImportError as error:
        if getattr(error, "name", None) == "simplejpeg":
            raise DecoderFault("simplejpeg is not installed") from None
        raise DecoderFault("simplejpeg is installed but does not load") from error
    except Exception as error:
        # A broken library may fail in any way while it is loaded.
        raise DecoderFault("simplejpeg is installed but does not load") from error
    return str(getattr(simplejpeg, "__version__", "unknown"))


def _tables_body(tables: bytes) -> bytes:
    """The segments of a tables-only stream, without its start and end."""
    wrong = DecoderError("its shared JPEG tables are of an unusual kind")
    if tables[:2] != _SOI:
        raise wrong
    at = 2
    while at + 4 <= len(tables) and tables[at + 1] != 0xD9:
        if tables[at] != 0xFF or tables[at + 1] not in _IN_TABLES:
            raise wrong
        at += 2 + int.from_bytes(tables[at + 2 : at + 4], "big")
    if tables[at : at + 2] != b"\xff\xd9":
        raise wrong
    return tables[2:at]
