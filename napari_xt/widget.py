"""The dock `Run xT`: choose, run, watch, cancel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import napari
from napari.layers import Image
from napari.utils.notifications import show_error
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication, QVBoxLayout, QWidget

from napari_xt import style
from napari_xt.chosen import Chosen
from napari_xt.overlay import prepare_soon
from napari_xt.page_list import add_pages
from napari_xt.pages import Pages
from napari_xt.plain_words import plain
from napari_xt.plan import Plan
from napari_xt.remote import RemoteStatus
from napari_xt.results import Results
from napari_xt.run_controls import RunControls
from napari_xt.run_form import RunForm
from napari_xt.run_session import CancelledEarly, RunSession
from napari_xt.run_setup import RunSetup
from napari_xt.slide_layers import pyramid_of, unwrapped
from napari_xt.slide_result import SlideResult, SlideResults
from napari_xt.turns import Turns
from napari_xt.words import (
    CLOSED,
    SO_FAR,
    decoded_words,
    how_far,
    judged_alone,
    mpp_note,
    partial_words,
    progress_words,
    slide_headline,
    summary,
)
from napari_xt.world import use_mpp
from xt_backend.errors import XTError
from xt_backend.keys import RESEARCH_USE

if TYPE_CHECKING:
    from napari_xt.dense_overlay import DenseOverlay
    from napari_xt.layers import LayerData
    from napari_xt.overlay import Overlay
    from xt_backend.backend import Backend
    from xt_backend.engine.events import RegionsDecoded, RegionsScored, RunFinished, RunPlanned
    from xt_backend.engine.spec import RunSpec
    from xt_backend.store import ScoreMap

__all__ = ["RunXT"]


def make_backend() -> Backend:
    """The backend of the window: a process of its own."""
    from xt_backend.backend import Backend

    return Backend(process=True)


class RunXT(QWidget):
    """Runs a model over the slide and lays the growing prediction over the tissue.

    Args:
        napari_viewer: Injected by napari.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = unwrapped(napari_viewer)
        self._slides = SlideResults(self._viewer, Turns(self))
        self._at_work: SlideResult | None = None
        self._spec: RunSpec | None = None
        self._docked = False
        self.session = RunSession(make_backend, self)
        self._build()
        # A closed panel starts no process.
        ready = self.session.ready_backend
        plan = Plan(self.plan, lambda: ready() if self._docked else None, self)
        self.setup = RunSetup(self._viewer, self.form, plan, lambda: self.session.running, self)
        self.remote = RemoteStatus(self.form, self.setup, lambda: self._docked, self.session, self)
        backend = self.session.ready_backend
        self.chosen = Chosen(self._viewer, self.setup, self._slides.find, backend, self)
        add_pages(self.pages, self.chosen)
        self._connect()
        self._follow_theme()
        self._show_idle()
        prepare_soon()

    # ------------------------------------------------------------------ what there is to see

    def _build(self) -> None:
        self.form = RunForm()
        controls = self.controls = RunControls()
        self.plan, self.progress, self.status = controls.plan, controls.progress, controls.status
        self.run_button, self.cancel_button = controls.run, controls.cancel
        self.results = Results()
        run = style.column(self.form, style.line(), controls)
        self.pages = Pages()
        self.pages.add("Run", run, "Choose slide, model and area, and score them.", scrolls=False)
        layout = QVBoxLayout(self)
        layout.setSpacing(8)
        layout.addWidget(self.pages)
        layout.addWidget(self.results)
        layout.addStretch(1)
        layout.addWidget(style.note_label(RESEARCH_USE))
        self.setMinimumWidth(300)

    def _connect(self) -> None:
        self._viewer.cursor.events.position.connect(self._on_cursor)
        self._viewer.events.theme.connect(self._follow_theme)
        self.setup.changed.connect(self._show_ready)
        self.setup.slide_changed.connect(self._show_chosen)
        self.setup.slide_removed.connect(self._on_slide_removed)
        self.run_button.clicked.connect(self.run)
        self.cancel_button.clicked.connect(self.cancel)
        self.results.context_switched.connect(self._switch_context)
        self.session.planned.connect(self._on_planned)
        self.session.progressed.connect(self._on_progress)
        self.session.decoded.connect(self._on_decoded)
        self.session.finished.connect(self._on_finished)
        self.session.failed.connect(self._on_failed)
        self.chosen.shown.connect(self._show_found)
        self.chosen.busy_changed.connect(self._show_ready)
        self.chosen.run_wanted.connect(self.run)
        # Not the bound method: the session is this widget's child, so Qt deletes its slots before.
        session = self.session
        self.destroyed.connect(lambda: session.close())
        application = QApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self.session.close)

    def _follow_theme(self, event: Any = None) -> None:
        self.setStyleSheet(style.panel_style(self._viewer.theme))

    def event(self, event: QEvent) -> bool:
        """End the run when the dock is closed: napari then takes this widget out of it."""
        if event.type() == QEvent.Type.ParentChange:
            if self.parent() is not None:
                self._docked = True
            elif self._docked:
                self._docked, self._at_work = False, None
                self.chosen.closed.emit()
                self.session.close()
                self._show_idle()
        return bool(super().event(event))

    def add_model_file(self, path: Path) -> None:
        """Offer a model file and select it."""
        self.setup.add_model_file(path)

    # ------------------------------------------------------------------ results by slide

    @property
    def overlay(self) -> Overlay | None:
        """The result's layers of the chosen slide, None before there are any."""
        chosen = self._chosen
        return None if chosen is None else chosen.overlay

    @property
    def dense(self) -> DenseOverlay | None:
        """The mask or points of the chosen slide, None before any run on it."""
        chosen = self._chosen
        return None if chosen is None else chosen.dense

    @property
    def _chosen(self) -> SlideResult | None:
        return self._slides.find(self.setup.slide_layer)

    def show_result(self, score_map: ScoreMap) -> None:
        """Lay a score map over the chosen slide, in place of the one shown before."""
        slide = self.setup.slide_layer
        if slide is not None:
            result = self._slides.of(slide)
            result.spec, result.in_run = None, False  # a run that goes on shows nothing more here
            note = self._lay_over(result, score_map)
            result.words = " ".join(filter(None, (slide_headline(score_map), note)))
            self._show_chosen()

    def show_dense(self, data: LayerData) -> None:
        """Lay a mask or points of the same run over the score map that is shown."""
        chosen = self._chosen
        if chosen is not None and chosen.overlay is not None:
            chosen.dense.show(data)
            chosen.overlay.make_way()

    def _lay_over(self, result: SlideResult, score_map: ScoreMap) -> str:
        """Lay it over, and say what is to be known of its pixel size."""
        use_mpp(self._viewer, result.slide, score_map.slide_mpp, score_map.mpp_source)
        self.setup.show_mpp()
        result.lay_over(score_map, context=self.results.context.isChecked())
        return mpp_note(score_map, pyramid_of(result.slide).info)

    def _on_slide_removed(self, layer: Image) -> None:
        result = self._slides.drop(layer)
        if result is not None and result is self._at_work:
            self._at_work = None
            self.cancel()

    # ------------------------------------------------------------------ the run

    def run(self) -> None:
        """Start the run that the form describes."""
        if self.session.running or self.chosen.job_going:
            return
        slide = self.setup.slide_layer
        self._at_work = None if slide is None else self._slides.of(slide)
        try:
            self._spec = self.setup.spec()
            self.session.start(self._spec, self.setup.before(self._spec))
        except XTError as error:
            self._on_failed(error)
            return
        self.setup.begin_run()
        self._say("Starting; the model is being loaded …", 0, 0)
        self._show_running()

    def cancel(self) -> None:
        """Stop the run; what is scored so far stays."""
        if self.session.running:
            self.session.cancel()
            self.cancel_button.setEnabled(False)
            self._say("Stopping …")

    def _say(self, status: str, done: int | None = None, total: int | None = None) -> None:
        """Tell how the run goes; without numbers the bar stays."""
        result = self._at_work
        if result is not None:
            result.status = status
            result.done = result.done if done is None else done
            result.total = result.total if total is None else total
        self._show_state()

    def _on_planned(self, event: RunPlanned) -> None:
        result = self._at_work
        if result is None:
            return
        self.setup.say_plan(event)
        if event.n_regions:
            self._lay_over(result, event.score_map)
            result.words, result.in_run, result.spec = SO_FAR, True, self._spec
        self._say("Reading the first regions …", 0, max(1, event.n_regions))
        self._show_chosen()

    def _on_decoded(self, event: RegionsDecoded) -> None:
        if self._at_work is not None:
            self._at_work.put(event)
            if not self.session.cancelling:
                self._say(decoded_words(event), event.done, max(1, event.total))

    def _on_progress(self, event: RegionsScored) -> None:
        result = self._at_work
        if result is None:
            return
        if result.overlay is not None and result.in_run:
            result.overlay.update(event.score_map)
            self._show_shares()
        if not self.session.cancelling:
            self._say(progress_words(event), event.done)

    def _on_finished(self, event: RunFinished | CancelledEarly) -> None:
        if isinstance(event, CancelledEarly):
            self._say(summary(event))
            self._end(None)
            return
        result, score_map = self._at_work, event.score_map
        self._say(summary(event), *how_far(event))
        if result is not None and result.in_run:
            cancelled = partial_words(score_map, "cancelled")
            result.words = cancelled if event.cancelled else slide_headline(score_map)
        self._end(event)

    def _on_failed(self, error: XTError) -> None:
        result = self._at_work
        if result is not None and result.in_run and result.overlay is not None:
            result.words = partial_words(result.overlay.score_map, "the run failed")
        words = plain(str(error))
        self._say(words)
        self._end(None)
        show_error(words)

    def _end(self, event: RunFinished | None) -> None:
        if self._at_work is not None:
            self._at_work.end(event)
            self._show_shares()
        self._at_work = None
        self.setup.end_run(event)
        self._show_idle()
        self.chosen.changed.emit()

    # ------------------------------------------------------------------ what is shown

    def _show_chosen(self) -> None:
        """Show what is known of the chosen slide, and nothing of any other."""
        self.chosen.changed.emit()
        self._show_found()

    def _show_found(self) -> None:
        chosen = self._chosen
        if chosen is None or chosen.overlay is None:
            self.results.hide()
        else:
            self.results.begin(chosen.overlay.score_map)
            self._show_shares()
        self._show_state()

    def _show_state(self) -> None:
        chosen, running = self._chosen, self.session.running
        if chosen is None:
            self.controls.say_nothing()
        else:
            self.results.say(chosen.words)
            total = chosen.total if running else chosen.total or 1
            self.controls.say(chosen.status, chosen.done, total)
        if running and self._at_work is None:
            self.status.setText(CLOSED)

    def _show_shares(self) -> None:
        if self.overlay is not None:
            self.results.show_shares(self.overlay.shares)
            self.results.offer_context(not judged_alone(self.overlay.score_map))

    def _switch_context(self, context: bool) -> None:
        self._slides.set_context(context)
        self._show_shares()

    def _on_cursor(self, event: Any) -> None:
        overlay = self.overlay
        if overlay is not None:
            reading = overlay.classes.reading_at(self._viewer.cursor.position)
            self.results.show_reading(reading, context=overlay.context)

    def _show_running(self) -> None:
        self.form.setEnabled(False)
        self.cancel_button.setEnabled(True)
        self.chosen.busy_changed.emit()

    def _show_ready(self) -> None:
        self.controls.allow(self.setup.ready and not self.session.running, self.chosen.job_going)

    def _show_idle(self) -> None:
        self.form.setEnabled(True)
        self.cancel_button.setEnabled(False)
        self._show_ready()
        self._show_state()
