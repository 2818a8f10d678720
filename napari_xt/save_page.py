"""The page `Save`: the run as files, and as the command that makes the same files."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error
from qtpy.QtWidgets import QApplication, QFileDialog, QPushButton, QVBoxLayout, QWidget

from napari_xt import style
from napari_xt.job_session import JobSession
from napari_xt.keyboard import GO, give_key
from napari_xt.plain_words import plain
from napari_xt.preference import RUN_FOLDER
from napari_xt.slide_layers import pyramid_of
from xt_backend.errors import UsageError, XTError

if TYPE_CHECKING:
    from napari_xt.chosen import Chosen
    from xt_backend.config import ScoreOptions

__all__ = ["SavePage"]

NOTHING = "Run a model on the slide first; then its result can be saved."
OPENED = "This result was opened from a run folder, and is saved there."
REOPEN = (
    "To see it again, use Open > Open a result … on the page Run, or drop the folder on napari."
)
RUN_GOING = "A run is going on; this one can be saved when it has ended."
ENDED_EARLY = (
    "This run did not come to its end. Run the model again to save it; the copied command does all "
    "of it too."
)
NOTE = (
    "A run folder holds the tables, annotations for QuPath and everything that is needed to open "
    "the result again, here or on another computer."
)


class SavePage(QWidget):
    """Saves the shown run, by the same code as the command line.

    Args:
        chosen: The slide and its result.
    """

    def __init__(self, chosen: Chosen) -> None:
        super().__init__()
        self._chosen = chosen
        self._out: Path | None = None
        self.session = JobSession(self)
        self.note = style.note_label()
        self.save = QPushButton("Save run …")
        self.save.setToolTip(
            "Write the files that `napari-xt score` writes into a new folder. Nothing is computed "
            "twice."
        )
        give_key(self.save, GO)
        self.copy = QPushButton("Copy as command")
        self.copy.setToolTip(
            "Copy the command line that makes the same files, for a script or another computer."
        )
        self.status = style.note_label()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        for part in (self.note, self.save, self.copy, self.status):
            layout.addWidget(part)
        layout.addStretch(1)
        chosen.changed.connect(self._show)
        self.save.clicked.connect(self._pick)
        self.copy.clicked.connect(self.copy_command)
        self.session.finished.connect(self._on_finished)
        self.session.failed.connect(self._on_failed)
        chosen.busy_changed.connect(self._show)
        chosen.closed.connect(self.session.end)
        chosen.watch(self.session)
        self._show()

    @property
    def command(self) -> list[str]:
        """The words of the command that makes the run's files.

        Raises:
            XTError: The drawn area cannot be written for it.
        """
        return self._command(Path(self._suggested))

    def copy_command(self) -> None:
        """Put the command line on the clipboard."""
        try:
            words = self.command
        except XTError as error:
            self._on_failed(error)
            return
        text = subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)
        QApplication.clipboard().setText(text)
        self.status.setText(f"Copied: {text}")

    def _pick(self) -> None:
        name, _ = QFileDialog.getSaveFileName(self, "Folder for the run", self._suggested)
        if name:
            self.save_to(Path(name))

    def save_to(self, out: Path) -> None:
        """Write the run into a folder."""
        from xt_backend.backend import NamedJob

        if self.session.running or self._chosen.run_going:
            return
        try:
            slide, model, options = self._what()
            words = self._command(out)
        except XTError as error:
            self._on_failed(error)
            return
        arguments: dict[str, Any] = {
            "slide": slide,
            "model": model,
            "out": out,
            "options": options,
            "words": words,
        }
        self._out = out
        job = NamedJob("xt_backend.batch.saving:save_run", arguments)
        self.session.start(self._chosen.backend(), job)
        self.status.setText("Saving …")
        self._show()

    @property
    def _suggested(self) -> str:
        return f"{self._slide_path().stem}{RUN_FOLDER}"

    def _slide_path(self) -> Path:
        slide = self._chosen.slide
        if slide is None:
            raise UsageError("There is no slide", "Open one first")
        return Path(pyramid_of(slide).path)

    def _what(self) -> tuple[Path, str, ScoreOptions]:
        """Slide, model and options of the shown run; an area that was drawn is a file now."""
        from platformdirs import user_data_path

        from xt_backend.config import ScoreOptions
        from xt_backend.keys import PRODUCT
        from xt_backend.outputs import roi_file

        slide, result = self._chosen.slide, self._chosen.result
        if slide is None or result is None or result.spec is None:
            raise UsageError("There is no run to save", "Run a model on the slide first")
        spec = result.spec
        values = {name: getattr(spec, name) for name in ScoreOptions.model_fields}
        if isinstance(spec.roi, dict):
            folder = user_data_path(PRODUCT, appauthor=False) / "areas"
            values["roi"] = roi_file(spec.roi, pyramid_of(slide).info.bounds_px, folder)
        return spec.slide.resolve(), spec.model, ScoreOptions(**values)

    def _command(self, out: Path) -> list[str]:
        from xt_backend.outputs import score_command

        slide, model, options = self._what()
        return score_command(slide, model, out, options)

    def _on_finished(self, result: dict[str, Any] | None) -> None:
        name = "" if self._out is None else self._out.name
        if result is None:
            self.status.setText("Not saved: it was cancelled.")
        elif not result["done"]:
            reason = plain(result["reason"])
            self.status.setText(f"Not saved: {reason}")
            show_error(reason)
        else:
            self.status.setText(f"Saved in {name}. {REOPEN}")
        self._show()

    def _on_failed(self, error: XTError) -> None:
        text = plain(str(error))
        self.status.setText(text)
        self._show()
        show_error(text)

    def _show(self) -> None:
        result = self._chosen.result
        ready = result is not None and result.spec is not None and self._chosen.complete
        opened = self._chosen.score_map is not None and result is not None and result.spec is None
        # Saving computes what is missing, and cannot be stopped.
        whole = ready and not self._chosen.partial
        note = NOTE if whole else ENDED_EARLY
        runs = self._chosen.run_going
        note = RUN_GOING if runs else note
        self.note.setText(note if ready else OPENED if opened else NOTHING)
        self.save.setEnabled(whole and not runs and not self.session.running)
        self.copy.setEnabled(ready)
