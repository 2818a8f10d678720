"""Runs of slides: the one that is going on, and those that wait for their turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari.utils.notifications import show_error, show_warning
from qtpy.QtCore import QObject, Signal

from napari_xt.plain_words import plain
from napari_xt.run_session import CancelledEarly, RunSession
from napari_xt.slide_layers import pyramid_of
from napari_xt.words import (
    CLOSED,
    SO_FAR,
    TAKEN_OUT,
    decoded_words,
    elsewhere_words,
    how_far,
    nothing_words,
    partial_words,
    progress_words,
    slide_headline,
    summary,
    turn_words,
)
from xt_backend.errors import XTError

if TYPE_CHECKING:
    from napari_xt.slide_result import SlideResult
    from xt_backend.engine.events import RegionsDecoded, RegionsScored, RunFinished, RunPlanned
    from xt_backend.engine.spec import RunSpec
    from xt_backend.store import ScoreMap

__all__ = ["Runs", "WantedRun"]


@dataclass(frozen=True, eq=False)
class WantedRun:
    """A run that was asked for, as it was asked for then.

    Attributes:
        result: Of its slide; gets what is found.
        spec: What to do.
        first: Done before it, in its thread.
    """

    result: SlideResult
    spec: RunSpec
    first: Callable[[], None]


class Runs(QObject):
    """Does one run after the other, and writes down in each slide's result how it goes.

    Args:
        session: Does one at a time.
        lay_over: Lays a score map over its slide.
        parent: Owner in the sense of Qt.
    """

    begun = Signal(object)
    """A `WantedRun` is at work."""
    planned = Signal(object)
    """The event of that name; what is known already lies over the slide."""
    told = Signal()
    """Something is to be said of a run."""
    grown = Signal()
    """A prediction has become another one."""
    ended = Signal(object)
    """The last event of a run; None where it failed, or was cancelled before it had begun."""

    def __init__(
        self,
        session: RunSession,
        lay_over: Callable[[SlideResult, ScoreMap], object],
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._session = session
        self._lay_over = lay_over
        self._now: WantedRun | None = None
        self._result: SlideResult | None = None  # None once its slide was closed
        self._waiting: list[WantedRun] = []
        session.planned.connect(self._on_planned)
        session.progressed.connect(self._on_progress)
        session.decoded.connect(self._on_decoded)
        session.finished.connect(self._on_finished)
        session.failed.connect(self._on_failed)

    # ------------------------------------------------------------------ what is wanted

    def want(self, run: WantedRun) -> None:
        """Begin a run, or let it wait until those before it have ended."""
        if self._session.running:
            self._waiting.append(run)
            self._say_turns()
        else:
            self._begin(run)

    def has(self, result: SlideResult | None) -> bool:
        """Whether a slide is at work, or waits."""
        return result is not None and (result is self._result or self._waits(result))

    def may_stop(self, result: SlideResult | None) -> bool:
        """Whether a slide's run can be cancelled, and was not."""
        return self.has(result) and not (result is self._result and self._session.cancelling)

    def cancel(self, result: SlideResult | None) -> None:
        """Stop a slide's run; what is scored so far stays. One that waits is not begun."""
        if result is None or not self.may_stop(result):
            return
        if result is self._result:
            self._session.cancel()
            self._say("Stopping …")
        else:
            self._take_out(result)
            result.status = TAKEN_OUT
            self._say_turns()

    def leave(self, result: SlideResult) -> None:
        """Want no run of a slide that was closed."""
        self._take_out(result)
        if result is self._result:
            self._result = None
            self._session.cancel()
        self._say_turns()

    def close(self) -> None:
        """End all of them now; nothing more is told."""
        for run in self._waiting:
            run.result.status = ""
        self._waiting.clear()
        self._now = self._result = None
        self._session.close()

    def words_beside(self, result: SlideResult | None) -> str:
        """What a slide says of another one's run; empty where it has something to say itself."""
        if not self._session.running:
            return ""
        if self._result is None:
            return CLOSED
        if self.has(result) or (result is not None and result.status):
            return ""
        return elsewhere_words(pyramid_of(self._result.slide).info.name)

    def _waits(self, result: SlideResult) -> bool:
        return any(run.result is result for run in self._waiting)

    def _take_out(self, result: SlideResult) -> None:
        self._waiting = [run for run in self._waiting if run.result is not result]

    def _begin(self, run: WantedRun) -> None:
        self._now, self._result = run, run.result
        try:
            self._session.start(run.spec, run.first)
        except XTError as error:
            self._on_failed(error)
            return
        self.begun.emit(run)
        self._say("Starting; the model is being loaded …", 0, 0)

    # ------------------------------------------------------------------ what is told

    def _say(self, status: str, done: int | None = None, total: int | None = None) -> None:
        """Tell how the run goes; without numbers the bar stays."""
        result = self._result
        if result is not None:
            result.status = status
            result.done = result.done if done is None else done
            result.total = result.total if total is None else total
        self.told.emit()

    def _say_turns(self) -> None:
        for before, run in enumerate(self._waiting, start=1):
            run.result.status = turn_words(before)
            run.result.done, run.result.total = 0, 1
        self.told.emit()

    def _on_planned(self, event: RunPlanned) -> None:
        result, run = self._result, self._now
        if result is None or run is None:
            return
        if event.n_regions:
            self._lay_over(result, event.score_map)
            result.words, result.in_run, result.spec = SO_FAR, True, run.spec
        self._say("Reading the first regions …", 0, max(1, event.n_regions))
        self.planned.emit(event)

    def _on_decoded(self, event: RegionsDecoded) -> None:
        if self._result is not None:
            self._result.put(event)
            if not self._session.cancelling:
                self._say(decoded_words(event), event.done, max(1, event.total))

    def _on_progress(self, event: RegionsScored) -> None:
        result = self._result
        if result is None:
            return
        if result.overlay is not None and result.in_run:
            result.overlay.update(event.score_map)
            self.grown.emit()
        if not self._session.cancelling:
            self._say(progress_words(event), event.done)

    def _on_finished(self, event: RunFinished | CancelledEarly) -> None:
        if isinstance(event, CancelledEarly):
            self._say(summary(event))
            self._end(None)
            return
        result, score_map = self._result, event.score_map
        nothing = ""
        if not (len(score_map) or event.cancelled or self._now is None):
            nothing = nothing_words(drawn=self._now.spec.roi is not None)
        self._say(nothing or summary(event), *how_far(event))
        if result is not None and result.in_run:
            cancelled = partial_words(score_map, "cancelled")
            result.words = cancelled if event.cancelled else slide_headline(score_map)
        self._end(event)
        if nothing:
            show_warning(nothing)

    def _on_failed(self, error: XTError) -> None:
        result = self._result
        if result is not None and result.in_run and result.overlay is not None:
            result.words = partial_words(result.overlay.score_map, "the run failed")
        words = plain(str(error))
        self._say(words)
        self._end(None)
        show_error(words)

    def _end(self, event: RunFinished | None) -> None:
        if self._result is not None:
            self._result.end(event)
            self.grown.emit()
        self._now = self._result = None
        self.ended.emit(event)
        if self._waiting and not self._session.running:
            run, *self._waiting = self._waiting
            self._say_turns()
            self._begin(run)
