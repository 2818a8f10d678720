"""The outlines of painted tissue as the files that runs read."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from xt_backend.slides import Thumbnail

    Mask = npt.NDArray[np.bool_]

__all__ = ["CLASS", "COLOR", "TissueFiles", "tissue_geojson"]

CLASS = "Tissue"
COLOR = "#00c2ff"
_FOLDER = "tissue"
_MOST_KEPT = 200
_MOST_WANTED = 8


class TissueFiles:
    """Names the files at once, and writes them in the thread that reads them: that takes a second.

    What runs used is kept in the user's folder, since commands that were copied name it; of these
    the least lately used go. What was only looked ahead at goes with the next one.
    """

    def __init__(self) -> None:
        self._wanted: dict[Path, Callable[[], bytes]] = {}
        self._passing: Path | None = None

    def path(self, mask: Mask, thumbnail: Thumbnail, info: Any, *, keep: bool) -> Path:
        """Where the outline of a mask lies once what `writer` gives has seen to it.

        Args:
            mask: (h, w) of the thumbnail.
            thumbnail: Whose scale it has.
            info: `SlideInfo` of the slide.
            keep: Whether it is for a run.
        """
        place = (mask.shape, thumbnail.scale_x, thumbnail.scale_y, info.bounds_px[:2])
        digest = hashlib.sha256(repr(place).encode() + np.packbits(mask).tobytes()).hexdigest()
        path = (_kept_folder() if keep else self._passing_folder()) / f"{digest[:16]}.geojson"
        self._wanted.pop(path, None)
        self._wanted[path] = partial(tissue_geojson, mask.copy(), thumbnail, info)
        for oldest in list(self._wanted)[:-_MOST_WANTED]:
            self._wanted.pop(oldest, None)
        return path

    def writer(self, tissue: str) -> Callable[[], None]:
        """Writes a file of `path`, in any thread and at any time; of other tissue it writes none.

        What it gives raises OutputError where the file cannot be written.
        """
        path = Path(tissue)
        outline = self._wanted.get(path)
        return (lambda: None) if outline is None else partial(self._write, path, outline)

    def _write(self, path: Path, outline: Callable[[], bytes]) -> None:
        from xt_backend.publishing import make_folder, publish_bytes

        if path.is_file():
            with contextlib.suppress(OSError):
                os.utime(path)
            return
        kept = path.parent != self._passing
        make_folder(path.parent)
        publish_bytes(path, outline(), durable=kept)
        _drop_oldest(path.parent, _MOST_KEPT if kept else 1)

    def _passing_folder(self) -> Path:
        if self._passing is None:
            self._passing = Path(tempfile.mkdtemp(prefix="napari-xt-tissue-"))
            weakref.finalize(self, shutil.rmtree, self._passing, True)
        return self._passing


def _kept_folder() -> Path:
    import platformdirs

    from xt_backend.keys import PRODUCT

    return Path(platformdirs.user_data_path(PRODUCT, appauthor=False)) / _FOLDER


def _drop_oldest(folder: Path, most: int) -> None:
    with contextlib.suppress(OSError):
        files = sorted(folder.glob("*.geojson"), key=lambda file: file.stat().st_mtime_ns)
        for file in files[:-most]:
            file.unlink(missing_ok=True)


def tissue_geojson(mask: Mask, thumbnail: Thumbnail, info: Any) -> bytes:
    """A mask as the outlines that `--tissue` reads, in QuPath's frame.

    Args:
        mask: (h, w) of the thumbnail.
        thumbnail: Whose scale it has.
        info: `SlideInfo` of the slide, for the corner of its bounds.
    """
    import shapely

    from xt_backend.samples.mask_outlines import outline_of
    from xt_backend.samples.qupath import annotation, collection_bytes

    corner = np.array(info.bounds_px[:2], float)
    scale = np.array((thumbnail.scale_x, thumbnail.scale_y))
    outline = shapely.transform(outline_of(mask), lambda xy: xy * scale - corner)
    number = UUID(bytes=hashlib.sha256(np.packbits(mask).tobytes()).digest()[:16])
    geometry = json.loads(shapely.to_geojson(outline))
    return collection_bytes([annotation(number, geometry, CLASS, COLOR)])
