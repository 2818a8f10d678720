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
from napari_xt.run_session import RunSession
from napari_xt.run_setup import RunSetup
from napari_xt.runs import Runs, WantedRun
from napari_xt.slide_layers import pyramid_of, unwrapped
from napari_xt.slide_result import SlideResult, SlideResults
from napari_xt.turns import Turns
from napari_xt.words import caution_words, judged_alone, mpp_note, slide_headline
from napari_xt.world import use_mpp
from xt_backend.errors import XTError
from xt_backend.keys import RESEARCH_USE

if TYPE_CHECKING:
    from napari_xt.dense_overlay import DenseOverlay
    from napari_xt.layers import LayerData
    from napari_xt.overlay import Overlay
    from xt_backend.backend import Backend
    from xt_backend.engine.events import RunFinished
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
        self._docked = False
        self.session = RunSession(make_backend, self)
        self.runs = Runs(self.session, self._lay_over, self)
        self._build()
        plan = Plan(self.plan, self._idle_backend, self)
        self.setup = RunSetup(self._viewer, self.form, plan, lambda: self.session.running, self)
        self.remote = RemoteStatus(self.form, self.setup, lambda: self._docked, self.session, self)
        backend = self.session.ready_backend
        self.chosen = Chosen(self._viewer, self.setup, self._slides.find, backend, self)
        add_pages(self.pages, self.chosen)
        self._connect()
        self._follow_theme()
        self._show_ready()
        self._show_state()
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
        self.pages.add("Run", run, "Choose slide, model and area, and score them.", fills=False)
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
        self.runs.begun.connect(self._on_begun)
        self.runs.planned.connect(self.setup.say_plan)
        self.runs.planned.connect(self._show_chosen)
        self.runs.told.connect(self._show_state)
        self.runs.told.connect(self._show_ready)
        self.runs.grown.connect(self._show_shares)
        self.runs.ended.connect(self._on_ended)
        self.chosen.shown.connect(self._show_found)
        self.chosen.busy_changed.connect(self._show_ready)
        self.chosen.run_wanted.connect(self.run)
        # Not the bound method: the session is this widget's child, so Qt deletes its slots before.
        session = self.session
        self.destroyed.connect(lambda: session.close())
        application = QApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self.session.close)

    def _idle_backend(self) -> Backend | None:
        """The backend, where it has time; a closed panel starts no process."""
        free = self._docked and not self.session.running
        return self.session.ready_backend() if free else None

    def _follow_theme(self, event: Any = None) -> None:
        self.setStyleSheet(style.panel_style(self._viewer.theme))

    def event(self, event: QEvent) -> bool:
        """End the run when the dock is closed: napari then takes this widget out of it."""
        if event.type() == QEvent.Type.ParentChange:
            if self.parent() is not None:
                self._docked = True
            elif self._docked:
                self._docked = False
                self.chosen.closed.emit()
                self.runs.close()
                self.setup.end_run(None)
                self._show_ready()
                self._show_state()
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
            said = (slide_headline(score_map), note, caution_words(score_map))
            result.words = " ".join(filter(None, said))
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
        selection, chosen = self._viewer.layers.selection, self.setup.slide_layer
        active = selection.active
        result.lay_over(score_map, context=self.results.context.isChecked())
        if result.slide is chosen:
            self.setup.show_mpp()
        else:
            selection.active = active  # somebody may be painting on another slide
        return mpp_note(score_map, pyramid_of(result.slide).info)

    def _on_slide_removed(self, layer: Image) -> None:
        result = self._slides.drop(layer)
        if result is not None:
            self.runs.leave(result)

    # ------------------------------------------------------------------ the run

    def run(self) -> None:
        """Run what the form describes, when what is being run has ended."""
        slide = self.setup.slide_layer
        if slide is None or self.chosen.job_going or self.runs.has(self._slides.of(slide)):
            return
        result = self._slides.of(slide)
        try:
            spec = self.setup.spec()
        except XTError as error:
            result.status = plain(str(error))
            self._show_state()
            show_error(result.status)
            return
        self.setup.models.keep()
        self.runs.want(WantedRun(result, spec, self.setup.before(spec)))

    def cancel(self) -> None:
        """Stop the run of the chosen slide; what is scored so far stays."""
        self.runs.cancel(self._chosen)

    def _on_begun(self, run: WantedRun) -> None:
        self.setup.begin_run(run.result.slide, run.spec)
        self.chosen.busy_changed.emit()

    def _on_ended(self, event: RunFinished | None) -> None:
        self.setup.end_run(event)
        self._show_ready()
        self._show_state()
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
        chosen = self._chosen
        if chosen is None:
            self.controls.say_nothing()
        else:
            self.results.say(chosen.words)
            total = chosen.total if self.runs.has(chosen) else chosen.total or 1
            self.controls.say(chosen.status, chosen.done, total)
        if words := self.runs.words_beside(chosen):
            self.status.setText(words)

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

    def _show_ready(self) -> None:
        chosen = self._chosen
        ready = self.setup.ready and not self.runs.has(chosen)
        self.controls.allow(ready, self.chosen.job_going)
        self.cancel_button.setEnabled(self.runs.may_stop(chosen))
