"""Answers questions, one after the other, and keeps in memory what the next one needs too."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import threading
from collections.abc import Callable

from xt_backend.errors import OutOfMemoryError, UsageError
from xt_backend.keys import RunMeta
from xt_backend.model import XT

from ..device import choose_device, is_out_of_memory
from ..extraction import key_of_run
from ..model_of_run import model_of_run
from .asked import About, Answer, Influence, Question, WhatIf
from .influence import influence
from .spread import spread
from .stopping import Stopped
from .stored import StoredField
from .what_if import what_if

__all__ = ["Respondent", "shared_respondent"]

_log = logging.getLogger(__name__)


@functools.cache
def shared_respondent() -> Respondent:
    """The one of this process: what it keeps in memory is kept once."""
    return Respondent()


class Respondent:
    """Keeps the last model, without its encoder, and the tokens of the last slide."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._model: tuple[tuple[str, str], XT] | None = None
        self._field: tuple[tuple[str, ...], StoredField] | None = None

    def answer(
        self, question: Question, cancelled: Callable[[], bool] = lambda: False
    ) -> Answer | None:
        """Answer from what is stored; no pixel is read and no region encoded.

        Where the device has no memory left, as beside a run on the same one, the processor answers.

        Args:
            question: What is asked.
            cancelled: Asked between two layers of the model.

        Returns:
            None where it was cancelled.

        Raises:
            ModelError: The model is another one by now, or one that was converted.
            StoreError: The run's features cannot be had.
            UsageError: There is no such region, or none would be left; or the run judged each
                region alone, so that there is nothing to ask about its context.
            OutOfMemoryError: The processor has no memory for it either.
        """
        about = question.about
        if about.score_map.run_meta.get(RunMeta.CONTEXT) is False:
            raise UsageError(
                "This prediction was made from each region alone, without context",
                "Run the model on the slide with context on, then ask",
            )
        with self._lock, contextlib.suppress(Stopped):
            device = choose_device(about.device).name
            for name in dict.fromkeys((device, "cpu")):
                if cancelled():
                    return None
                try:
                    return self._answer_on(name, question, cancelled)
                except Exception as error:
                    if not is_out_of_memory(error):
                        raise
                    _log.warning("no memory for a question on %s", name)
                # Its error is gone by now, which had held on to what fills the device.
                self._model = self._field = None
            raise OutOfMemoryError(
                f"There is not enough memory to ask about {about.score_map.slide_name}",
                "Ask again when the run that is going on has ended, or close other programs",
            )
        return None

    def _answer_on(self, device: str, question: Question, cancelled: Callable[[], bool]) -> Answer:
        model = self._load_model(question.about, device)
        field = self._load_field(question.about, model, cancelled)
        if isinstance(question, Influence):
            return influence(model, field, question, cancelled)
        if isinstance(question, WhatIf):
            return what_if(model, field, question, cancelled)
        return spread(model, field, question, cancelled)

    def _load_model(self, about: About, device: str) -> XT:
        wanted = about.score_map.model_sha256
        key = (wanted, device)
        if self._model is None or self._model[0] != key:
            self._model = self._field = None  # freed before the new ones are loaded
            made = model_of_run(about.model, wanted, device, "Run it on the slide again")
            self._model = (key, made)
        return self._model[1]

    def _load_field(self, about: About, model: XT, cancelled: Callable[[], bool]) -> StoredField:
        score_map = about.score_map
        rows = hashlib.sha256(score_map.cells.tobytes() + score_map.status.tobytes()).hexdigest()
        kept = key_of_run(score_map)
        store = "" if kept is None else kept.digest()
        key = (score_map.model_sha256, store, f"{about.cache} {about.use_cache}", rows)
        if self._field is None or self._field[0] != key:
            self._field = None
            self._field = (key, StoredField.load(about, model, cancelled))
        return self._field[1]
