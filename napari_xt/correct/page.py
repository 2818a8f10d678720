"""The page `Correct`: paint, train, look again."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QVBoxLayout, QWidget

from napari_xt.correct import words
from napari_xt.correct.counting import Counting
from napari_xt.correct.form import CorrectForm
from napari_xt.correct.marks import Marks
from napari_xt.correct.pieces import read_areas, write_areas
from napari_xt.correct.request import suggested_name, tune_request
from napari_xt.job_session import JobSession
from napari_xt.of_slides import OfSlides
from napari_xt.plain_words import plain
from napari_xt.slide_layers import pyramid_of
from xt_backend.errors import XTError

if TYPE_CHECKING:
    from napari.layers import Image, Layer

    from napari_xt.chosen import Chosen
    from xt_backend.training import Progress
    from xt_backend.training.tuning import TuneResult, TuneSpec

__all__ = ["CorrectPage"]

_FILES = "QuPath annotations (*.geojson *.json);;All files (*)"


class CorrectPage(QWidget):
    """Corrections of the chosen slide, and the training of its model on them.

    Args:
        chosen: The slide and its result.
    """

    model_made = Signal(object)
    """Path of a new model file that is to be chosen."""

    def __init__(self, chosen: Chosen) -> None:
        super().__init__()
        self._chosen = chosen
        self._marks: OfSlides[Marks] = OfSlides(chosen.viewer, self)
        self._counting = Counting(self._say_counts, self)
        self._classes: tuple[str, ...] = ()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._began = 0.0
        self._trained_on: Image | None = None
        self.session = JobSession(self)
        self.form = CorrectForm()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.form)
        self._connect()
        self._show()

    def _connect(self) -> None:
        form, session = self.form, self.session
        self._chosen.changed.connect(self._show)
        self._chosen.busy_changed.connect(self._show)
        self._chosen.closed.connect(session.end)
        self._chosen.watch(session)
        form.class_chosen.connect(self.choose_class)
        form.paint.clicked.connect(lambda: self._use("paint"))
        form.outline.clicked.connect(lambda: self._use("outline"))
        form.clear.clicked.connect(self._clear)
        form.load.clicked.connect(self._pick_import)
        form.save.clicked.connect(self._pick_export)
        form.train.clicked.connect(self.train)
        form.cancel.clicked.connect(self._cancel)
        session.told.connect(self._on_told)
        session.finished.connect(self._on_finished)
        session.failed.connect(self._on_failed)

    # ------------------------------------------------------------------ corrections

    @property
    def marks(self) -> Marks | None:
        """Corrections of the chosen slide; None where nothing can be corrected."""
        slide, score_map = self._chosen.slide, self._chosen.score_map
        if slide is None or score_map is None or score_map.task != "region":
            return None
        marks = self._marks.find(slide)
        if marks is None:
            marks = Marks(self._chosen.viewer, slide, self._show_counts)
            self._marks.put(marks)
        return marks

    def choose_class(self, index: int) -> None:
        """Paint and draw with a class from now on; -1 rubs out."""
        if index >= len(self._classes):
            return  # a key of an earlier model, which had more
        self.form.check_class(index)
        marks = self.marks
        if marks is not None:
            marks.choose(index)

    def _use(self, tool: str) -> None:
        marks = self.marks
        if marks is None:
            return
        layer: Layer
        if tool == "paint":
            layer = painted = marks.paint_layer()
            painted.mode = "paint"
        else:
            layer = outlined = marks.outline_layer()
            outlined.selected_data = set()
            outlined.mode = "add_polygon_lasso"
        self._bind_keys(layer)
        self._chosen.viewer.layers.selection.active = layer
        chosen = self.form.chosen_class
        self.choose_class(chosen if tool == "paint" else max(0, chosen))

    def _bind_keys(self, layer: Layer) -> None:
        """Keys choose classes while a layer of corrections is the active one."""
        for index in range(min(9, len(self._classes))):
            layer.bind_key(str(index + 1), _chooses(self, index), overwrite=True)
        layer.bind_key("0", _chooses(self, -1), overwrite=True)

    def _clear(self) -> None:
        if (marks := self.marks) is not None:
            marks.clear()

    def _pick_import(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "QuPath annotations", "", _FILES)
        if name:
            self.import_file(Path(name))

    def import_file(self, path: Path) -> None:
        """Add QuPath annotations to the corrections of the chosen slide."""
        marks = self.marks
        if marks is None:
            return
        try:
            unknown = marks.add(read_areas(path, marks.bounds_px))
        except XTError as error:
            self._fail(error)
            return
        if unknown:
            known = ", ".join(self._classes)
            left_out = ", ".join(unknown)
            self.form.say(f"Left out, as the model does not know it: {left_out}. Known: {known}.")

    def _pick_export(self) -> None:
        slide = self._chosen.slide
        if slide is None:
            return
        suggested = str(Path(pyramid_of(slide).info.name).with_suffix(".geojson"))
        name, _ = QFileDialog.getSaveFileName(self, "Save corrections", suggested, _FILES)
        if name:
            self.export_file(Path(name))

    def export_file(self, path: Path) -> None:
        """Write the corrections of the chosen slide as QuPath annotations."""
        marks, score_map = self.marks, self._chosen.score_map
        if marks is None or score_map is None:
            return
        colors = dict(zip(score_map.classes, score_map.colors, strict=True))
        try:
            write_areas(path, marks.areas(), colors, marks.bounds_px)
        except XTError as error:
            self._fail(error)
            return
        self.form.say(f"Saved as {path.name}.")

    # ------------------------------------------------------------------ training

    def train(self) -> None:
        """Train the model of the result on the corrections of all open slides it was run on."""
        if self.session.running or self._chosen.run_going:
            return
        from xt_backend.training.tuning import TuneJob

        # A training that was left alone may still read them.
        self._folder = tempfile.TemporaryDirectory(
            prefix="napari-xt-corrections-", ignore_cleanup_errors=True
        )
        try:
            spec = self.spec(Path(self._folder.name))
        except XTError as error:
            self._fail(error)
            return
        self._began, self._trained_on = 0.0, self._chosen.slide
        self.session.start(self._chosen.backend(), TuneJob(spec))
        self.form.say("Reading the slide and the corrections …", 0, 0)
        self._show_busy()

    def spec(self, folder: Path) -> TuneSpec:
        """The training that the page describes; as of `tune_request`."""
        form, marks = self.form, self._marks.all
        return tune_request(
            self._chosen, marks, form.name.text(), form.learns.currentData(), folder
        )

    def _cancel(self) -> None:
        self.session.cancel()
        self.form.cancel.setEnabled(False)
        self.form.say("Stopping …", 0, 0)

    def _on_told(self, progress: Progress) -> None:
        if progress.stage == "train" and not self._began:
            self._began = time.monotonic()
        seconds = time.monotonic() - self._began
        self.form.say(words.progress_words(progress, seconds), progress.done, progress.total)

    def _on_finished(self, result: TuneResult | None) -> None:
        self._end()
        if result is None:
            self.form.say("Stopped: nothing was changed.")
            return
        same = self._chosen.slide is self._trained_on
        runs = same and not self._chosen.run_going
        said = words.result_words(result)
        self.form.say(said if runs else f"{said} {words.PRESS_RUN}", 1, 1)
        self.model_made.emit(result.model)
        if runs:
            self._chosen.run_wanted.emit()

    def _on_failed(self, error: XTError) -> None:
        self._fail(error)

    def _fail(self, error: XTError) -> None:
        self._end()
        text = plain(str(error))
        self.form.say(text)
        show_error(text)

    def _end(self) -> None:
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.cleanup()
        self._show_busy()

    # ------------------------------------------------------------------ what is shown

    def _show(self) -> None:
        marks, score_map = self.marks, self._chosen.score_map
        if score_map is None:
            note = words.NOTHING
        elif marks is None:
            note = words.OTHER_TASK
        else:
            note = words.HOW if self._chosen.model else words.NO_MODEL
            note = words.RUN_GOING if self._chosen.run_going else note
            marks.follow(score_map)
            if score_map.classes != self._classes:
                self._classes = score_map.classes
                self.form.show_classes(score_map.classes, score_map.colors)
                self.form.check_class(0)
            marks.choose(self.form.chosen_class, selected_too=False)
            self.form.name.setPlaceholderText(suggested_name(self._chosen.model))
        self.form.note.setText(note)
        self._show_busy()
        self._show_counts()

    def _show_counts(self) -> None:
        marks = self.marks
        self._counting.ask(marks)
        if marks is None:
            self.form.counts.setText("")
        self.form.save.setEnabled(marks is not None and marks.any)
        self.form.clear.setEnabled(marks is not None and marks.any)

    def _say_counts(self, counts: dict[str, int] | XTError) -> None:
        told = str(counts) if isinstance(counts, XTError) else words.counts_words(counts)
        self.form.counts.setText(told)

    def _show_busy(self) -> None:
        running = self.session.running
        able = self.marks is not None
        for part in (self.form.paint, self.form.outline, self.form.load):
            part.setEnabled(able)
        ready = able and bool(self._chosen.model) and self._chosen.complete
        self.form.train.setEnabled(ready and not running and not self._chosen.run_going)
        self.form.cancel.setEnabled(running)


def _chooses(page: CorrectPage, index: int) -> Any:
    def choose(layer: Layer) -> None:
        del layer
        page.choose_class(index)

    return choose
