"""The one door through which the window and scripts ask for runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import TYPE_CHECKING, Protocol, cast

from xt_backend.engine.elsewhere import Elsewhere
from xt_backend.engine.events import Event, JobEvent
from xt_backend.engine.pace import PaceJob
from xt_backend.engine.spec import RunSpec

from .cancellations import Cancellations
from .jobs import AnyEvent, Job, Work, events_of
from .messages import DeviceChoice
from .run_events import RunEvents, closed_error, closed_run

if TYPE_CHECKING:
    from xt_backend.engine import Engine

__all__ = ["Backend"]


class Worker(Protocol):
    """What works runs off; see `Backend` for what each method promises."""

    def submit(self, spec: Work) -> Iterator[AnyEvent]:
        """Hand a run or job over at once and return its events."""

    def device(self, asked: str, precision: str, elsewhere: Elsewhere | None) -> DeviceChoice:
        """Find out which device it would be."""

    def cancel(self, run_id: str) -> None:
        """Ask a run to stop; unknown or finished ids are ignored."""

    def close(self) -> None:
        """Stop everything."""


class InProcessWorker:
    """Runs in the thread that iterates the events; nothing happens between two of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked = Cancellations()
        self._closed = False
        self._engine: Engine | None = None

    def submit(self, spec: Work) -> Iterator[AnyEvent]:
        """Work in the caller's thread."""
        if self._closed:
            return closed_run(spec.run_id)
        left = threading.Event()
        self._asked.begin(spec.run_id)
        return RunEvents(self._events(spec, left), partial(self._leave, spec.run_id, left))

    def _leave(self, run_id: str, left: threading.Event) -> None:
        left.set()  # it may be going on in another thread
        self._asked.end(run_id)

    def _events(self, spec: Work, left: threading.Event) -> Generator[AnyEvent, None, None]:
        def cancelled() -> bool:
            return self._closed or left.is_set() or self._asked.cancelled(spec.run_id)

        yield from events_of(spec, self._ready_engine, cancelled)

    def _ready_engine(self) -> Engine:
        from xt_backend.engine import Engine

        with self._lock:
            if self._engine is None:
                self._engine = Engine()
            return self._engine

    def device(self, asked: str, precision: str, elsewhere: Elsewhere | None) -> DeviceChoice:
        """Find out in the caller's thread."""
        if self._closed:
            raise closed_error()
        return chosen_device(asked, precision, elsewhere, self._ready_engine)

    def cancel(self, run_id: str) -> None:
        """Stop a run after its batch in hand."""
        self._asked.cancel(run_id)

    def close(self) -> None:
        """Stop every run after its batch in hand."""
        self._closed = True
        if self._engine is not None:
            self._engine.remote.close()


def chosen_device(
    asked: str, precision: str, elsewhere: Elsewhere | None, engine: Callable[[], Engine]
) -> DeviceChoice:
    """Find out in this process; loads torch.

    Args:
        asked: As of `EncodingOptions`.
        precision: As of `EncodingOptions`.
        elsewhere: Where to ask; None for this machine.
        engine: Gives what has the way there.

    Raises:
        DeviceError: There is no such device, or no cluster.
    """
    if elsewhere is not None:
        device = engine().remote.device(elsewhere, asked, precision)
    else:
        from xt_backend.engine.device import choose_device

        device = choose_device(asked, precision)
    return DeviceChoice(device.name, device.precision, device.reason)


class Backend:
    """Takes runs and tells how they go.

    Args:
        process: Work in a process of its own, so that a crash or full memory there never takes
            this one along. It is started with the first run as a module of its own, which also
            works from unguarded scripts, notebooks and IPython.

    Example:
        >>> import xt_backend as xt
        >>> spec = xt.RunSpec(slide="slide.tiff", model="context-demo")
        >>> with xt.Backend() as backend:
        ...     events = list(backend.submit(spec))
        >>> type(events[0]).__name__, type(events[-1]).__name__
        ('RunPlanned', 'RunFinished')
    """

    def __init__(self, process: bool = False) -> None:
        self._worker: Worker
        if process:
            from .process import ProcessWorker

            self._worker = ProcessWorker()
        else:
            self._worker = InProcessWorker()

    def submit(self, spec: RunSpec) -> Iterator[Event]:
        """Run one slide.

        The run is handed over at once: `cancel` reaches it from then on. Leaving its events before
        the last one cancels it. After `close` the only event is a `RunFailed`.

        Returns:
            `RunPlanned`, any number of `RegionsScored` and, for dense and detection models,
            `RegionsDecoded`, then one of `RunFinished` and `RunFailed`. With a process, runs
            submitted while another is going wait for their turn; without one, a run goes on
            only while its events are taken.
        """
        return cast("Iterator[Event]", self._worker.submit(spec))

    def work(self, job: Job | PaceJob) -> Iterator[JobEvent]:
        """Do work that is no run, on the same terms as `submit`.

        Args:
            job: Plain data with a `run_id`, that knows how to do itself.

        Returns:
            Any number of `JobTold`, then one of `JobFinished` and `RunFailed`.
        """
        return cast("Iterator[JobEvent]", self._worker.submit(job))

    def device(
        self, asked: str = "auto", precision: str = "auto", elsewhere: Elsewhere | None = None
    ) -> DeviceChoice:
        """Which device a run with these options would use, and why.

        With a process, it is started if it is not there: the first run then need not wait for
        that. Waits for runs that go on.

        Args:
            asked: As of `RunSpec`.
            precision: As of `RunSpec`.
            elsewhere: As of `RunSpec`; the way there is opened, and kept for the next run.

        Raises:
            DeviceError: There is no such device, or it can't do the precision; or no cluster.
            BackendDiedError: The process could not be asked, or the backend is closed.
        """
        return self._worker.device(asked, precision, elsewhere)

    def cancel(self, run_id: str) -> None:
        """Ask a run to stop after the batch in hand; its last event is `RunFinished`."""
        self._worker.cancel(run_id)

    def close(self) -> None:
        """Cancel what is going on and end the process, if there is one."""
        self._worker.close()

    def __enter__(self) -> Backend:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
