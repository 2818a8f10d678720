"""The dock `Run xT`: choose, run, watch, cancel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import napari
from napari.layers import Image, Shapes
from napari.utils.notifications import show_error
from qtpy.QtCore import QEvent, QTimer
from qtpy.QtWidgets import (
    QApplication,
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_xt import models, world
from napari_xt.form import EVERYTHING, Form, note_label
from napari_xt.handles import pyramid_of, watch_viewer
from napari_xt.overlay import Overlay
from napari_xt.preview import Preview, preview
from napari_xt.results import Results
from napari_xt.roi import roi_from_shapes
from napari_xt.session import Session
from napari_xt.tasks import Latest
from xt_backend.errors import UsageError, XTError
from xt_backend.keys import RESEARCH_USE

if TYPE_CHECKING:
    from xt_backend.backend import Backend
    from xt_backend.engine.events import RegionsScored, RunFinished, RunPlanned
    from xt_backend.engine.spec import RunSpec
    from xt_backend.store import ScoreMap

__all__ = ["RunXT"]

_PRIMARY = (
    "QPushButton { font-weight: bold; padding: 7px; }"
    "QPushButton:enabled { background-color: #2f6fde; color: white; }"
    "QPushButton:enabled:hover { background-color: #4b86ea; }"
)

LOOK_AGAIN_MS = 250
"""A change of the form is looked at after this much rest."""


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
        self._models: list[models.ModelChoice] = []
        self._model_files: tuple[Path, ...] = ()
        self._running_on: Image | None = None
        self._docked = False
        self.overlay: Overlay | None = None
        self.session = Session(make_backend, self)
        self._look = Latest(self._on_preview, self)
        self._look_later = QTimer(self)
        self._look_later.setSingleShot(True)
        self._look_later.setInterval(LOOK_AGAIN_MS)
        self._look_later.timeout.connect(self._look_ahead)
        self._build()
        self._connect()
        self._list_slides()
        self._list_areas()

    # ------------------------------------------------------------------ what there is to see

    def _build(self) -> None:
        self.form = Form()
        self.plan = QLabel()
        self.plan.setWordWrap(True)
        self.run_button = QPushButton("Run xT")
        self.run_button.setToolTip("Score the chosen area. You can go on looking at the slide.")
        self.run_button.setStyleSheet(_PRIMARY)
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip("Stop now; what is scored so far stays.")
        self.cancel_button.setStyleSheet("QPushButton { padding: 7px; }")
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.progress.setFixedHeight(8)
        self.status = note_label()
        self.results = Results()
        research = note_label()
        research.setText(RESEARCH_USE)
        buttons = QHBoxLayout()
        buttons.addWidget(self.run_button, 2)
        buttons.addWidget(self.cancel_button, 1)
        layout = QVBoxLayout(self)
        layout.setSpacing(8)
        for part in (self.form, _line(), self.plan):
            layout.addWidget(part)
        layout.addLayout(buttons)
        for part in (self.progress, self.status, self.results):
            layout.addWidget(part)
        layout.addStretch(1)
        layout.addWidget(research)
        self.setMinimumWidth(300)
        self._show_idle()

    def _connect(self) -> None:
        viewer, form = self._viewer, self.form
        watch_viewer(viewer)
        viewer.layers.events.inserted.connect(self._on_layer_inserted)
        viewer.layers.events.removed.connect(self._on_layer_removed)
        viewer.layers.events.renamed.connect(self._on_layer_renamed)
        viewer.cursor.events.position.connect(self._on_cursor)
        form.slide_changed.connect(self._on_slide_changed)
        form.changed.connect(self._on_form_changed)
        form.draw_requested.connect(self._draw_area)
        form.model_file_requested.connect(self._pick_model_file)
        self.run_button.clicked.connect(self.run)
        self.cancel_button.clicked.connect(self.cancel)
        self.results.context_switched.connect(self._switch_context)
        self.session.planned.connect(self._on_planned)
        self.session.progressed.connect(self._on_progress)
        self.session.finished.connect(self._on_finished)
        self.session.failed.connect(self._on_failed)
        self.destroyed.connect(self.session.close)
        application = QApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self.session.close)

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

    # ------------------------------------------------------------------ layers come and go

    @property
    def slide_layer(self) -> Image | None:
        """The layer of the chosen slide."""
        layer = self.form.slide.currentData()
        return layer if layer in self._viewer.layers else None

    def _on_layer_inserted(self, event: Any) -> None:
        layer = event.value
        if isinstance(layer, Shapes):
            layer.events.data.connect(self._on_shapes_drawn)
            self._list_areas()
        elif pyramid_of(layer) is not None:
            self._list_slides(prefer=None if self.session.running else layer)

    def _on_layer_removed(self, event: Any) -> None:
        layer = event.value
        if isinstance(layer, Shapes):
            layer.events.data.disconnect(self._on_shapes_drawn)
            self._list_areas()
            self._look_later.start()
        elif pyramid_of(layer) is not None:
            if layer is self._running_on:
                self.status.setText("The slide was closed, so its run is being cancelled.")
                self.cancel()
            self._list_slides()

    def _on_layer_renamed(self, event: Any) -> None:
        self._list_slides()
        self._list_areas()

    def _on_shapes_drawn(self, event: Any) -> None:
        if event.source is self.form.area.currentData():
            self._look_later.start()

    def _list_slides(self, prefer: Image | None = None) -> None:
        combo = self.form.slide
        before = combo.currentData()
        found = [layer for layer in self._viewer.layers if pyramid_of(layer) is not None]
        combo.blockSignals(True)
        combo.clear()
        for layer in found:
            combo.addItem(layer.name, layer)
        chosen = next((layer for layer in (prefer, before) if layer in found), None)
        combo.setCurrentIndex(found.index(chosen) if chosen is not None else len(found) - 1)
        combo.blockSignals(False)
        if combo.currentData() is not before or not found:
            self._on_slide_changed()

    def _list_areas(self) -> None:
        layers = [layer for layer in self._viewer.layers if isinstance(layer, Shapes)]
        self.form.show_areas([(layer.name, layer) for layer in layers])

    # ------------------------------------------------------------------ before a run

    def _on_slide_changed(self) -> None:
        layer = self.slide_layer
        if layer is None:
            self.form.slide_note.setText(
                "Drop a slide onto the window, or use File > Open Sample > xT for whole slides."
            )
            self.form.show_mpp(None)
            self.form.mpp.setEnabled(False)
        else:
            info = pyramid_of(layer).info
            mpp = None if info.mpp is None else info.mpp.value
            size = f"{info.width_px:,} × {info.height_px:,} px"
            if info.mpp is None:
                self.form.slide_note.setText(f"{size}; {info.mpp_problem}.")
            else:
                width_mm, height_mm = (
                    info.width_px * info.mpp.x / 1000,
                    info.height_px * info.mpp.y / 1000,
                )
                self.form.slide_note.setText(f"{size}, {width_mm:.1f} × {height_mm:.1f} mm")
            self.form.show_mpp(mpp)
        self._list_models()
        self._on_form_changed()

    def _list_models(self) -> None:
        current = self.form.model.currentData() or ""
        self._models = models.choices(self._model_files)
        mpp, upsample = self._slide_mpp(), self.form.upsample.isChecked()
        self.form.show_models(self._models, models.choose(self._models, mpp, upsample, current))

    def _slide_mpp(self) -> float | None:
        layer = self.slide_layer
        if layer is None:
            return None
        mpp = pyramid_of(layer).info.mpp
        return self.form.typed_mpp if mpp is None else mpp.value

    @property
    def _model(self) -> models.ModelChoice | None:
        index = self.form.model.currentIndex()
        return self._models[index] if 0 <= index < len(self._models) else None

    def _on_form_changed(self) -> None:
        model = self._model
        self.form.model_note.setText(
            "No model is installed; pick a file with “…”."
            if model is None
            else models.explain(model, self._slide_mpp(), self.form.upsample.isChecked())
        )
        self._look_later.start()
        self._show_ready()

    def _show_ready(self) -> None:
        ready = self.slide_layer is not None and self._model is not None
        self.run_button.setEnabled(ready and not self.session.running)

    def _spec(self) -> RunSpec:
        """The run as the form asks for it.

        Raises:
            XTError: Something is missing, or the shapes enclose nothing.
        """
        from xt_backend.engine.spec import RunSpec

        layer, model = self.slide_layer, self._model
        if layer is None:
            raise UsageError("There is no slide to score", "Open a slide first")
        if model is None:
            raise UsageError("There is no model", "Pick a model file with the button beside it")
        if model.card is None:
            raise UsageError(model.problem, "Pick another model")
        area = self.form.area.currentData()
        roi = roi_from_shapes(area, layer) if isinstance(area, Shapes) else None
        return RunSpec(
            slide=pyramid_of(layer).path,
            model=model.reference,
            slide_mpp=self.form.typed_mpp,
            allow_upsample=self.form.upsample.isChecked(),
            tissue=EVERYTHING if area == EVERYTHING else "auto",
            roi=roi,
            device=self.form.device.currentData(),
        )

    def _look_ahead(self) -> None:
        if self.session.running:
            return
        model = self._model
        if self.slide_layer is None or model is None or model.card is None:
            self._look.forget()
            self.plan.setText("")
            return
        try:
            spec = self._spec()
        except XTError as error:
            self._look.forget()
            self.plan.setText(str(error))
            return
        card = model.card
        self.plan.setText("Looking for tissue …")
        self._look.ask(lambda: preview(spec, card))

    def _on_preview(self, result: Preview | XTError) -> None:
        if not self.session.running:
            self.plan.setText(result.in_words() if isinstance(result, Preview) else str(result))

    def _draw_area(self) -> None:
        layer = self.slide_layer
        shapes = Shapes(
            ndim=2,
            name="Area to score",
            scale=(1.0, 1.0) if layer is None else layer.scale[-2:],
            units=None if layer is None else layer.units[-2:],
            edge_color="#ffd400",
            face_color=(1.0, 0.83, 0.0, 0.08),
            edge_width=4,
        )
        self._viewer.add_layer(shapes)
        self.form.area.setCurrentIndex(self.form.area.findData(shapes))
        shapes.mode = "add_polygon"

    def _pick_model_file(self) -> None:
        name, _ = QFileDialog.getOpenFileName(
            self, "Model file", "", "Models (*.safetensors);;All files (*)"
        )
        if name:
            self.add_model_file(Path(name))

    def add_model_file(self, path: Path) -> None:
        """Offer a model file and select it."""
        if path not in self._model_files:
            self._model_files = (*self._model_files, path)
        self._list_models()
        self.form.model.setCurrentIndex(self.form.model.findData(str(path)))

    # ------------------------------------------------------------------ the run

    def run(self) -> None:
        """Start the run that the form describes."""
        if self.session.running:
            return
        try:
            spec = self._spec()
            self.session.start(spec)
        except XTError as error:
            self._on_failed(error)
            return
        self._look.forget()
        self._running_on = self.slide_layer
        self._show_running()

    def cancel(self) -> None:
        """Stop the run; what is scored so far stays."""
        if self.session.running:
            self.session.cancel()
            self.cancel_button.setEnabled(False)
            self.status.setText("Stopping …")

    def _on_planned(self, event: RunPlanned) -> None:
        words = [f"{event.n_regions:,} regions on {event.device} ({event.device_reason})"]
        if event.n_cached:
            words.append(f"{event.n_cached:,} of them are known from an earlier run")
        self.plan.setText(". ".join([*words, *event.notes]) + ".")
        self.progress.setRange(0, max(1, event.n_regions))
        self.status.setText("Reading the first regions …")
        self.show_result(event.score_map)
        self.results.headline.setText("")

    def show_result(self, score_map: ScoreMap) -> None:
        """Lay a score map over the slide, in place of the one shown before."""
        layer = self._running_on or self.slide_layer
        if layer is not None and layer in self._viewer.layers:
            world.use_um(self._viewer, layer, score_map.slide_mpp)
        if self.overlay is not None:
            self.overlay.remove()
        self.results.begin(score_map)
        self.results.headline.setText(_slide_headline(score_map))
        self.overlay = Overlay(self._viewer, score_map, context=self.results.context.isChecked())
        self._show_shares()

    def _on_progress(self, event: RegionsScored) -> None:
        self.progress.setValue(event.done)
        words = [f"{event.done:,} of {event.total:,} regions"]
        if event.regions_per_s:
            words.append(f"{event.regions_per_s:.1f} regions/s")
        if event.stage == "context":
            words = ["All regions are read; looking at them together …"]
        elif event.seconds_left is not None:
            words.append(f"{_duration(event.seconds_left)} left")
        if not self.session.cancelling:
            self.status.setText(" · ".join(words))
        self._update(event.score_map)

    def _on_finished(self, event: RunFinished) -> None:
        score_map = event.score_map
        if score_map is not None and self.overlay is not None:
            self._update(score_map)
        self._show_idle()
        self.status.setText(_summary(event))
        if event.cancelled:
            self.results.headline.setText("Partial: cancelled, and judged without context.")
        elif score_map is not None:
            self.results.headline.setText(_slide_headline(score_map))

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
        if self.overlay is None or not self.results.isVisible():
            return
        reading = self.overlay.classes.reading_at(self._viewer.cursor.position)
        self.results.show_reading(reading, context=self.overlay.context)

    def _show_running(self) -> None:
        self.form.setEnabled(False)
        self.run_button.setEnabled(False)
        self.cancel_button.setEnabled(True)
        self.progress.setRange(0, 0)
        self.status.setText("Starting; the model is being loaded …")

    def _show_idle(self) -> None:
        self._running_on = None
        self.form.setEnabled(True)
        self.cancel_button.setEnabled(False)
        if self.progress.maximum() == 0:
            self.progress.setRange(0, 1)
            self.progress.reset()
        self._show_ready()


def _line() -> QFrame:
    line = QFrame()
    line.setFrameShape(QFrame.Shape.HLine)
    line.setStyleSheet("color: rgba(128, 128, 128, 90);")
    return line


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{seconds / 3600:.1f} h"


def _summary(event: RunFinished) -> str:
    score_map = event.score_map
    if score_map is None:
        return "Cancelled before the first region was scored."
    scored = int(score_map.scored.sum())
    total = len(score_map.status)
    if event.cancelled:
        return f"Cancelled: {scored:,} of {total:,} regions are scored, the others are marked."
    words = [f"Done: {scored:,} regions"]
    if event.seconds.get("total"):
        words.append(f"in {_duration(event.seconds['total'])}")
    if event.cache == "hit":
        words.append("from an earlier run's store")
    if score_map.n_failed:
        words.append(f"; {score_map.n_failed:,} could not be read and are marked")
    return " ".join(words) + "."


def _slide_headline(score_map: ScoreMap) -> str:
    if score_map.slide_logits is None:
        return ""
    probabilities = score_map.slide_probabilities
    best = int(probabilities.argmax())
    return f"The slide as a whole: {score_map.slide_label} ({probabilities[best]:.0%})."
