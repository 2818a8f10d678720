"""A run as the command that makes the same files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xt_backend.config import ScoreOptions
from xt_backend.keys import PRODUCT
from xt_backend.publishing import make_folder, publish_bytes

__all__ = ["roi_file", "score_command"]

AREAS_KEPT = 100
"""Files of areas in a folder; those written longest ago go."""

_AREA = re.compile(r"area-[0-9a-f]{12}\.geojson")
_FLAG_OF = {"stride_px": "--stride"}


def score_command(slide: Path, model: str, out: Path, options: ScoreOptions) -> list[str]:
    """The words of the command that scores a slide with these options.

    Args:
        slide: Slide file or DICOM folder.
        model: Name or file of a model.
        out: Run directory.
        options: What differs from the defaults becomes flags; its ROI must be a file, see
            `roi_file`.
    """
    words = [PRODUCT, "score", str(slide), "--model", model, "--out", str(out)]
    given = options.model_dump(mode="json")
    usual = ScoreOptions().model_dump(mode="json")
    for name in ScoreOptions.model_fields:
        value = given[name]
        if value == usual[name]:
            continue
        flag = _FLAG_OF.get(name, f"--{name.replace('_', '-')}")
        if name == "use_cache":
            words.append("--no-cache")
        elif name == "context":
            words += [flag, "off"]
        elif value is True:
            words.append(flag)
        elif isinstance(value, list):
            words += [word for one in value for word in (flag, str(one))]
        else:
            words += [flag, str(value)]
    return words


def roi_file(geometry: dict[str, Any], bounds_px: Sequence[float], folder: Path) -> Path:
    """Write an area as the file that `--roi` takes, named by its content.

    The folder keeps the last `AREAS_KEPT` of them: commands are copied and forgotten.

    Args:
        geometry: GeoJSON in level-0 px.
        bounds_px: x, y of the slide's bounds, from which files count.
        folder: Made if it is not there.

    Raises:
        OutputError: It cannot be written.
    """
    import shapely

    area = shapely.from_geojson(json.dumps(geometry))
    moved = shapely.transform(area, lambda xy: xy - tuple(bounds_px[:2]))
    content = json.dumps(shapely.geometry.mapping(moved)).encode()
    path = folder / f"area-{hashlib.sha256(content).hexdigest()[:12]}.geojson"
    make_folder(folder)
    publish_bytes(path, content)
    _forget_old(folder, path)
    return path


def _forget_old(folder: Path, new: Path) -> None:
    written = []
    for path in folder.iterdir():
        if path != new and _AREA.fullmatch(path.name):
            with contextlib.suppress(OSError):  # another window was quicker
                written.append((path.stat().st_mtime_ns, path))
    for _, path in sorted(written, reverse=True)[AREAS_KEPT - 1 :]:
        with contextlib.suppress(OSError):
            path.unlink()
