"""The dock `Run xT`: choose, run, watch, cancel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import napari
from napari.layers import Image
from napari.utils.notifications import show_error
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import (
    QApplication,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_xt import style
from napari_xt.dense_overlay import DenseOverlay
from napari_xt.overlay import Overlay, prepare_soon
from napari_xt.plan import Plan
from napari_xt.preview import planned_words
from napari_xt.results import Results
from napari_xt.run_form import RunForm
from napari_xt.run_session import RunSession
from napari_xt.run_setup import RunSetup
from napari_xt.slide_layers import pyramid_of
from napari_xt.words import (
    SO_FAR,
    cancelled_words,
    duration,
    mpp_note,
    slide_headline,
    summary,
)
from napari_xt.world import use_mpp
from xt_backend.errors import XTError
from xt_backend.keys import RESEARCH_USE
from xt_backend.wording import counted

if TYPE_CHECKING:
    from napari_xt.layers import LayerData
    from xt_backend.backend import Backend
    from xt_backend.engine.events import RegionsDecoded, RegionsScored, RunFinished, RunPlanned
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
        self._viewer = napari_viewer
        self._running_on: Image | None = None
        self._docked = False
        self.overlay: Overlay | None = None
        self.dense = DenseOverlay(napari_viewer)
        self.session = RunSession(make_backend, self)
        self._build()
        # A closed panel starts no process.
        plan = Plan(
            self.plan,
            lambda asked: self.session.device_question(asked) if self._docked else None,
            self,
        )
        self.setup = RunSetup(napari_viewer, self.form, plan, lambda: self.session.running, self)
        self._connect()
        self._follow_theme()
        self._show_idle()
        prepare_soon()

    # ------------------------------------------------------------------ what there is to see

    def _build(self) -> None:
        self.form = RunForm()
        self.plan = QLabel()
        self.plan.setWordWrap(True)
        self.run_button = QPushButton("Run xT")
        self.run_button.setToolTip("Score the chosen area. You can go on looking at the slide.")
        self.run_button.setStyleSheet(style.RUN)
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip("Stop now; what is scored so far stays.")
        self.cancel_button.setStyleSheet(style.CANCEL)
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.progress.setFixedHeight(8)
        self.progress.setStyleSheet(style.BAR)
        self.status = style.note_label()
        self.results = Results()
        research = style.note_label()
        research.setText(RESEARCH_USE)
        buttons = QHBoxLayout()
        buttons.addWidget(self.run_button, 2)
        buttons.addWidget(self.cancel_button, 1)
        layout = QVBoxLayout(self)
        layout.setSpacing(8)
        for part in (self.form, style.line(), self.plan):
            layout.addWidget(part)
        layout.addLayout(buttons)
        for part in (self.progress, self.status, self.results):
            layout.addWidget(part)
        layout.addStretch(1)
        layout.addWidget(research)
        self.setMinimumWidth(300)

    def _connect(self) -> None:
        self._viewer.cursor.events.position.connect(self._on_cursor)
        self._viewer.events.theme.connect(self._follow_theme)
        self.setup.changed.connect(self._show_ready)
        self.setup.slide_removed.connect(self._on_slide_removed)
        self.run_button.clicked.connect(self.run)
        self.cancel_button.clicked.connect(self.cancel)
        self.results.context_switched.connect(self._switch_context)
        self.session.planned.connect(self._on_planned)
        self.session.progressed.connect(self._on_progress)
        self.session.decoded.connect(self._on_decoded)
        self.session.finished.connect(self._on_finished)
        self.session.failed.connect(self._on_failed)
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
                self._docked = False
                self.session.close()
                self._show_idle()
        return bool(super().event(event))

    def add_model_file(self, path: Path) -> None:
        """Offer a model file and select it."""
        self.setup.add_model_file(path)

    # ------------------------------------------------------------------ the run

    def run(self) -> None:
        """Start the run that the form describes."""
        if self.session.running:
            return
        try:
            spec = self.setup.spec()
            self.session.start(spec)
        except XTError as error:
            self._on_failed(error)
            return
        self.setup.say_plan(self.plan.text())
        self._running_on = self.setup.slide_layer
        self._show_running()

    def cancel(self) -> None:
        """Stop the run; what is scored so far stays."""
        if self.session.running:
            self.session.cancel()
            self.cancel_button.setEnabled(False)
            self.status.setText("Stopping …")

    def _on_planned(self, event: RunPlanned) -> None:
        self.setup.say_plan(planned_words(event))
        self.progress.setRange(0, max(1, event.n_regions))
        self.status.setText("Reading the first regions …")
        self.show_result(event.score_map)
        self.results.say(SO_FAR)

    def show_result(self, score_map: ScoreMap) -> None:
        """Lay a score map over the slide, in place of the one shown before."""
        layer = self._running_on or self.setup.slide_layer
        slide, note = None, ""
        if layer is not None and layer in self._viewer.layers:
            slide = layer
            use_mpp(self._viewer, slide, score_map.slide_mpp, score_map.mpp_source)
            self.setup.show_mpp()
            note = mpp_note(score_map, pyramid_of(slide).info)
        self.dense.remove()
        self.results.begin(score_map)
        self.results.say(slide_headline(score_map), note)
        if self.overlay is None or not self.overlay.restart(score_map, slide):
            if self.overlay is not None:
                self.overlay.remove()
            context = self.results.context.isChecked()
            self.overlay = Overlay(self._viewer, score_map, context=context, slide=slide)
        self.dense.frame = self.overlay.classes.affine.affine_matrix
        self._show_shares()

    def show_dense(self, data: LayerData) -> None:
        """Lay a mask or points of the same run over the score map that is shown."""
        self.dense.show(data)
        if self.overlay is not None:
            self.overlay.make_way()

    def _on_decoded(self, event: RegionsDecoded) -> None:
        if self.overlay is None:
            return
        if self.dense.layer is None:
            self.overlay.make_way()
        self.dense.put(event, self.overlay.score_map)
        self.progress.setRange(0, max(1, event.total))
        self.progress.setValue(event.done)
        if not self.session.cancelling:
            what = "masks" if event.stage == "dense" else "points"
            self.status.setText(
                f"Looking closer: {what} of {event.done:,} of {counted(event.total, 'region')} · "
                f"{event.regions_per_s:.1f} regions/s · {duration(event.seconds_left)} left"
            )

    def _on_progress(self, event: RegionsScored) -> None:
        self.progress.setValue(event.done)
        words = [f"{event.done:,} of {counted(event.total, 'region')}"]
        if event.regions_per_s:
            words.append(f"{event.regions_per_s:.1f} regions/s")
        if event.stage == "decode":
            words = ["All regions are scored; now each is looked at in detail …"]
        elif event.stage == "context":
            words = ["All regions are read; looking at them together …"]
        elif event.seconds_left is not None:
            words.append(f"{duration(event.seconds_left)} left")
        if not self.session.cancelling:
            self.status.setText(" · ".join(words))
        self._update(event.score_map)

    def _on_finished(self, event: RunFinished) -> None:
        score_map = event.score_map
        if score_map is not None and self.overlay is not None:
            self._update(score_map)
            self.dense.finish(event.points, score_map, partial=event.cancelled)
        self._show_idle()
        self.status.setText(summary(event))
        if score_map is not None:
            words = cancelled_words(score_map) if event.cancelled else slide_headline(score_map)
            self.results.say(words)

    def _on_failed(self, error: XTError) -> None:
        self._show_idle()
        self.status.setText(str(error))
        show_error(str(error))

    def _update(self, score_map: ScoreMap) -> None:
        if self.overlay is not None:
            self.overlay.update(score_map)
            self._show_shares()

    def _show_shares(self) -> None:
        if self.overlay is not None:
            self.results.show_shares(self.overlay.labels, len(self.overlay.score_map.classes))

    def _switch_context(self, context: bool) -> None:
        if self.overlay is not None:
            self.overlay.set_context(context)
            self._show_shares()

    def _on_cursor(self, event: Any) -> None:
        if self.overlay is None:
            return
        reading = self.overlay.classes.reading_at(self._viewer.cursor.position)
        self.results.show_reading(reading, context=self.overlay.context)

    def _show_running(self) -> None:
        self.form.setEnabled(False)
        self.run_button.setEnabled(False)
        self.cancel_button.setEnabled(True)
        self.progress.setRange(0, 0)
        self.status.setText("Starting; the model is being loaded …")

    def _on_slide_removed(self, layer: Image) -> None:
        if layer is self._running_on:
            self.status.setText("The slide was closed, so its run is being cancelled.")
            self.cancel()

    def _show_ready(self) -> None:
        self.run_button.setEnabled(self.setup.ready and not self.session.running)

    def _show_idle(self) -> None:
        self._running_on = None
        self.form.setEnabled(True)
        self.cancel_button.setEnabled(False)
        if self.progress.maximum() == 0:
            self.progress.setRange(0, 1)
            self.progress.reset()
        self._show_ready()
