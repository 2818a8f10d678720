"""A tuning as work for `Backend`."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field

from xt_backend.engine.events import JobEvent, JobFinished, JobTold

from .result import TuneResult
from .spec import TuneSpec

__all__ = ["TuneJob"]


@dataclass(frozen=True)
class TuneJob:
    """Tells `Progress`; its result is a `TuneResult`.

    Attributes:
        spec: What is to be tuned.
        run_id: Names it in events and in `Backend.cancel`.
    """

    spec: TuneSpec
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def events(self, cancelled: Callable[[], bool]) -> Iterator[JobEvent]:
        """Tune; cancelled, it writes nothing.

        Raises:
            XTError: As of `tune`.
        """
        from .tuner import tuning

        with closing(tuning(self.spec)) as steps:
            for told in steps:
                if isinstance(told, TuneResult):
                    yield JobFinished(self.run_id, told)
                    return
                if cancelled():
                    yield JobFinished(self.run_id, None, cancelled=True)
                    return
                yield JobTold(self.run_id, told)
