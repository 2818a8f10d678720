"""What the pages of the panel are about: the chosen slide and what was found on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_xt.job_session import JobSession
    from napari_xt.run_setup import RunSetup
    from napari_xt.slide_result import SlideResult
    from xt_backend.backend import Backend
    from xt_backend.engine.spec import RunSpec
    from xt_backend.store import ScoreMap

__all__ = ["Chosen"]


class Chosen(QObject):
    """The chosen slide, its result, and what made it; `changed` tells that it is another one.

    Nothing is told while a run grows, only when it is planned and when it has ended.

    Args:
        viewer: Holds the layers.
        setup: Knows which slide is chosen, and the models.
        find: What was found on a slide.
        backend: The window's backend, opened if there is none.
        parent: Owner in the sense of Qt.
    """

    changed = Signal()
    shown = Signal()
    """What is shown of the result has changed (a page laid something else over the slide)."""

    model_made = Signal(object)
    """Path of a new model file, to be chosen."""

    busy_changed = Signal()
    """A run or a job has begun or ended. One waits for the other: ending a hung run ends both."""

    closed = Signal()
    """The panel is closed: nobody wants an answer any more."""

    run_wanted = Signal()
    """The chosen model is to be run on the chosen slide."""

    def __init__(
        self,
        viewer: ViewerModel,
        setup: RunSetup,
        find: Callable[[Image | None], SlideResult | None],
        backend: Callable[[], Backend],
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self.viewer = viewer
        self.backend = backend
        self._setup = setup
        self._find = find
        self._jobs: list[JobSession] = []
        self.model_made.connect(setup.add_model_file)

    @property
    def slide(self) -> Image | None:
        """The layer of the slide."""
        return self._setup.slide_layer

    @property
    def result(self) -> SlideResult | None:
        """What was found on it, with its layers; None before any run."""
        return self._find(self.slide)

    def of(self, slide: Image) -> SlideResult | None:
        """What was found on any slide."""
        return self._find(slide)

    def watch(self, jobs: JobSession) -> None:
        """Let a page's jobs and the runs wait for each other."""
        self._jobs.append(jobs)
        jobs.changed.connect(self.busy_changed)

    @property
    def job_going(self) -> bool:
        """Whether a page's job is going on."""
        return any(jobs.running for jobs in self._jobs)

    @property
    def run_going(self) -> bool:
        """Whether a run is going on, on this slide or another one."""
        return self._setup.busy

    @property
    def score_map(self) -> ScoreMap | None:
        """The prediction of the last run, as it was made; None before there is one."""
        result = self.result
        return None if result is None or result.overlay is None else result.score_map

    @property
    def complete(self) -> bool:
        """Whether there is a prediction and no run is at work on it."""
        result = self.result
        return self.score_map is not None and result is not None and not result.in_run

    @property
    def partial(self) -> bool:
        """Whether the run was cancelled or failed before its end, or is not there yet."""
        return self.score_map is None or self.score_map.partial

    @property
    def model(self) -> str:
        """Name or file of the model that made the result; empty where none that is known did."""
        result, score_map = self.result, self.score_map
        if result is None or score_map is None:
            return ""
        return result.model or self._setup.models.of(score_map.model_sha256)

    @property
    def spec(self) -> RunSpec | None:
        """What the run was asked for; None for a result that was opened."""
        result = self.result
        return None if result is None else result.spec
