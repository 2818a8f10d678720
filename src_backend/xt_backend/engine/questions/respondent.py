"""Answers questions, one after the other, and keeps in memory what the next one needs too."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import threading
from collections.abc import Callable

from xt_backend.errors import UsageError
from xt_backend.keys import RunMeta
from xt_backend.model import XT

from ..device import choose_device
from ..extraction import key_of_run
from ..model_of_run import model_of_run
from .asked import About, Answer, Influence, Question, WhatIf
from .influence import influence
from .spread import spread
from .stopping import Stopped
from .stored import StoredField
from .what_if import what_if

__all__ = ["Respondent", "shared_respondent"]


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
        """
        about = question.about
        if about.score_map.run_meta.get(RunMeta.CONTEXT) is False:
            raise UsageError(
                "This prediction was made from each region alone, without context",
                "Run the model on the slide with context on, then ask",
            )
        with self._lock, contextlib.suppress(Stopped):
            if cancelled():
                return None
            model = self._load_model(about)
            field = self._load_field(about, model, cancelled)
            if isinstance(question, Influence):
                return influence(model, field, question, cancelled)
            if isinstance(question, WhatIf):
                return what_if(model, field, question, cancelled)
            return spread(model, field, question, cancelled)
        return None

    def _load_model(self, about: About) -> XT:
        device = choose_device(about.device)
        wanted = about.score_map.model_sha256
        key = (wanted, device.name)
        if self._model is None or self._model[0] != key:
            self._model = self._field = None  # freed before the new ones are loaded
            made = model_of_run(about.model, wanted, device.name, "Run it on the slide again")
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
