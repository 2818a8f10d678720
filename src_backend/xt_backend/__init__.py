"""xT on whole-slide images: the engine behind napari-xt, for scripts.

Names are loaded on first use: importing the package loads neither torch nor OpenSlide. Nothing
needs an ``if __name__ == "__main__"``, neither with ``workers`` nor with a `Backend` of its own
process: scripts, notebooks and IPython are all the same. The examples are run as tests.

Example:
    >>> import xt_backend as xt
    >>> run = xt.score("slide.tiff", model="context-demo")
    >>> run.slides["status"].tolist()
    ['done']
    >>> run.regions.groupby("label").size().idxmax()
    'other'
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import attributes as _attributes

if TYPE_CHECKING:
    from .backend import Backend
    from .batch.features import features
    from .batch.result import Run
    from .batch.score import score
    from .engine import RegionsDecoded, RegionsScored, RunFailed, RunFinished, RunPlanned, RunSpec
    from .errors import XTError
    from .slides import Slide, open_slide
    from .store import ScoreMap

_HOMES = {
    "Backend": "backend",
    "RegionsDecoded": "engine.events",
    "RegionsScored": "engine.events",
    "Run": "batch",
    "RunFailed": "engine.events",
    "RunFinished": "engine.events",
    "RunPlanned": "engine.events",
    "RunSpec": "engine.spec",
    "ScoreMap": "store",
    "Slide": "slides",
    "XTError": "errors",
    "features": "batch",
    "open_slide": "slides",
    "score": "batch",
}

__all__ = [
    "Backend",
    "RegionsDecoded",
    "RegionsScored",
    "Run",
    "RunFailed",
    "RunFinished",
    "RunPlanned",
    "RunSpec",
    "ScoreMap",
    "Slide",
    "XTError",
    "features",
    "open_slide",
    "score",
]


__getattr__ = _attributes(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
