"""What one run is asked to do."""

from __future__ import annotations

import uuid
from pathlib import Path

from pydantic import Field

from xt_backend.config import ScoreOptions

from .elsewhere import Elsewhere

__all__ = ["RunSpec"]


def _new_id() -> str:
    return uuid.uuid4().hex


class RunSpec(ScoreOptions):
    """One slide, one model, and the options of `ScoreOptions`.

    Attributes:
        slide: Slide file or DICOM folder.
        model: Name of a known model or a model file.
        run_id: Names the run in events and in `Backend.cancel`.
        slide_id: Identifier used in outputs; the file's stem when empty.
        slide_name: What outputs call the slide; its file name when empty.
        elsewhere: A Ray cluster whose worker encodes the regions, `device` being its; all else is
            done here. None encodes here. No result depends on it but through the device.

    Example:
        >>> import xt_backend as xt
        >>> spec = xt.RunSpec(slide="slide.tiff", model="context-demo", stride_px=48)
        >>> spec.slide.name, spec.stride_px, spec.workers
        ('slide.tiff', 48, 2)
    """

    slide: Path
    model: str
    run_id: str = Field(default_factory=_new_id)
    slide_id: str = ""
    slide_name: str = ""
    elsewhere: Elsewhere | None = None

    @property
    def own_device(self) -> str:
        """What computes on this machine, as it was asked for."""
        return self.device if self.elsewhere is None else "auto"

    @property
    def own_precision(self) -> str:
        """The same of its precision."""
        return self.precision if self.elsewhere is None else "auto"
