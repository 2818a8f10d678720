"""Asks the backend, one question at a time; answers arrive in the main thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_xt.beside import Beside, Tell
from xt_backend.errors import XTError

if TYPE_CHECKING:
    from xt_backend.backend import Backend
    from xt_backend.engine.questions import Question

__all__ = ["Asking"]


class Asking(QObject):
    """The newest question counts: asking another one cancels what is being answered.

    Args:
        backend: The window's backend; asked for in the main thread.
        parent: Owner in the sense of Qt.
    """

    answered = Signal(object, object)
    """The question and its answer."""
    failed = Signal(object)
    """The `XTError` that is the only answer."""
    changed = Signal()
    """Whether something is being answered."""

    def __init__(self, backend: Callable[[], Backend], parent: QObject) -> None:
        super().__init__(parent)
        self._backend = backend
        self._question: Question | None = None
        self._beside = Beside(self._take, self, "xt-ask")

    @property
    def busy(self) -> bool:
        """Whether a question is being answered."""
        return self._question is not None

    def ask(self, question: Question) -> None:
        """Ask, in place of what was asked before."""
        self.cancel()
        backend = self._backend()
        self._question = question
        self._beside.start(partial(_fetch, backend, question))
        self.changed.emit()

    def cancel(self) -> None:
        """Want no answer any more."""
        question, self._question = self._question, None
        if question is not None:
            self._backend().cancel(question.run_id)
            self._beside.leave()
            self.changed.emit()

    def _take(self) -> None:
        for answer in self._beside.told():
            question, self._question = self._question, None
            self._beside.leave()
            self.changed.emit()
            if isinstance(answer, XTError):
                self.failed.emit(answer)
            elif answer is not None:
                self.answered.emit(question, answer)


def _fetch(backend: Backend, question: Question, tell: Tell) -> None:
    from xt_backend.engine.events import JobFinished, RunFailed

    for event in backend.work(question):
        if isinstance(event, JobFinished):
            tell(event.result)
        elif isinstance(event, RunFailed):
            tell(event.error)
