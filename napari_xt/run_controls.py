"""The middle of the panel: what a run will do, its buttons, and how it goes."""

from __future__ import annotations

from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_xt import style
from napari_xt.keyboard import GO, STOP, give_key

__all__ = ["RunControls"]

WAITING = "A training or saving is going on; a run can begin when it has ended or was stopped."


class RunControls(QWidget):
    """Plan, `Run xT` and `Cancel`, progress and status. Knows nothing of napari or runs."""

    def __init__(self) -> None:
        super().__init__()
        self.plan = QLabel()
        self.plan.setWordWrap(True)
        self.run = QPushButton("Run xT")
        self.run.setToolTip(
            "Score the chosen area. You can go on looking at the slide. While another slide is "
            "run, this one waits for its turn."
        )
        give_key(self.run, GO)
        self.run.setStyleSheet(style.RUN)
        self.cancel = QPushButton("Cancel")
        self.cancel.setToolTip("Stop the run of this slide now; what is scored so far stays.")
        give_key(self.cancel, STOP)
        self.cancel.setStyleSheet(style.CANCEL)
        self.waiting = style.note_label()
        self.waiting.setText(WAITING)
        self.waiting.hide()
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.progress.setFixedHeight(8)
        self.progress.setStyleSheet(style.BAR)
        self.status = style.note_label()
        buttons = QHBoxLayout()
        buttons.addWidget(self.run, 2)
        buttons.addWidget(self.cancel, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        layout.addWidget(self.plan)
        layout.addLayout(buttons)
        layout.addWidget(self.waiting)
        layout.addWidget(self.progress)
        layout.addWidget(self.status)

    def allow(self, ready: bool, waits: bool) -> None:
        """Enable `Run xT`.

        Args:
            ready: Whether there is something to run.
            waits: Whether it has to wait for a page's job all the same, which is said.
        """
        self.run.setEnabled(ready and not waits)
        self.waiting.setVisible(waits)

    def say(self, status: str, done: int, total: int) -> None:
        """Tell how a run goes.

        Args:
            status: In words.
            done: Regions that it is through with.
            total: Regions that it scores; 0 while that is not known yet.
        """
        self.status.setText(status)
        self.progress.setRange(0, total)
        self.progress.setValue(done)

    def say_nothing(self) -> None:
        """Clear the status and the bar."""
        self.say("", 0, 1)
        self.progress.reset()
