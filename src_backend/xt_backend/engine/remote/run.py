"""One run whose regions are encoded on another machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from xt_backend.errors import DeviceError, EngineError
from xt_backend.model import XT, ReferenceXT, find_model

from ..device import Device
from ..elsewhere import Elsewhere
from ..encoder import BatchEncoder
from ..encoders import EncoderChoice, Features, Pixels
from ..installed import versions
from ..preparation import Prepared
from ..spec import RunSpec
from .link import Answer, Link, NotWantedError
from .messages import Content, Looked, OpenedEncoder, Place, SlideThere

__all__ = ["Remote", "RemoteRun"]

_BEGIN_S = 300.0
"""How long a cluster may take until it has a worker for us."""
_BATCH = 16
"""The fewest regions that are worth a message."""
_AHEAD = 2
"""Messages that are under way besides the one that is waited for: they bound the memory."""
_ENCODING = ("napari-xt", "torch", "timm", "numpy", "openvino")
_READING = ("openslide-python", "openslide-bin", "simplejpeg", "pillow", "scikit-image")

Cancelled = Callable[[], bool]


class Remote:
    """Keeps the way to the last worker from one run to the next."""

    def __init__(self) -> None:
        self._link: Link | None = None

    def link(self, elsewhere: Elsewhere, device: str, cancelled: Cancelled) -> tuple[Link, Place]:
        """A way that holds, and where the worker is.

        Args:
            elsewhere: Where to.
            device: As of `EncodingOptions`.
            cancelled: Asked while the worker is waited for.

        Raises:
            UsageError: Ray is not installed, or there is no token.
            DeviceError: The cluster cannot be had, or has no room.
            EngineError: It has other versions; or it was cancelled.
        """
        link = self._link
        if (
            link is None
            or link.broken
            or (link.address, link.device)
            != (
                elsewhere.address,
                device,
            )
        ):
            self.close()
            self._link = link = Link(elsewhere.address, device)
        try:
            place: Place = link.ask("place").get(cancelled, _BEGIN_S)
        except NotWantedError:
            raise _cancelled_early() from None
        except TimeoutError:
            self.close()
            raise DeviceError(
                f"The Ray cluster at {elsewhere.address} has given no worker for {_BEGIN_S:.0f} s",
                "See with ray status what its machines are busy with, and that this one is of them",
            ) from None
        _check_versions(place)
        return link, place

    def device(self, elsewhere: Elsewhere, asked: str, precision: str) -> Device:
        """Which device a run there would use; the reason says where it is.

        Args:
            elsewhere: Where to ask.
            asked: As of `EncodingOptions`.
            precision: As of `EncodingOptions`.

        Raises:
            XTError: As of `link`; or there is no such device.
        """
        link, place = self.link(elsewhere, asked, lambda: False)
        device: Device = link.ask("device", asked, precision).get(lambda: False, _BEGIN_S)
        return replace(device, reason=f"{device.reason}, on {_at(place, elsewhere)}")

    def close(self) -> None:
        """Leave the worker, if there is one."""
        link, self._link = self._link, None
        if link is not None:
            link.close()


def _cancelled_early() -> EngineError:
    return EngineError("The run was cancelled before its first region", "Run again")


def _at(place: Place, elsewhere: Elsewhere) -> str:
    return f"{place.node} in the Ray cluster at {elsewhere.address}"


def _check_versions(place: Place) -> None:
    here = versions()
    for name in _ENCODING:
        ours, theirs = here.get(name, "none"), place.versions.get(name, "none")
        if ours != theirs:
            raise EngineError(
                f"{place.node} has {name} {theirs}, and this machine has {ours}",
                "Install the same versions on both: results depend on them",
            )


class RemoteRun:
    """A worker at the service of one run.

    Args:
        remote: Has the way to it.
        spec: The run; it says where the worker is.
        model: Whose region encoder is used; it may be without its weights.
        cancelled: Asked while answers are waited for.

    Attributes:
        choice: How the worker encodes.
        encoder: What encodes pixels that this machine reads.
        device: Of the worker.

    Raises:
        XTError: As of `Remote.link`, or the worker cannot use the model.
    """

    def __init__(
        self, remote: Remote, spec: RunSpec, model: XT | ReferenceXT, cancelled: Cancelled
    ) -> None:
        if spec.elsewhere is None:
            raise EngineError("The run names no other machine", "Please report this with the log")
        self._spec, self._elsewhere, self._cancelled = spec, spec.elsewhere, cancelled
        self._link, self._place = remote.link(spec.elsewhere, spec.device, cancelled)
        sha256, name = model.card.state_sha256, spec.model
        if not self._get("has_model", sha256, name):
            self._get("put_model", sha256, Content(find_model(name)), spec.offline or None)
        opened: OpenedEncoder = self._get(
            "encoder", sha256, spec.encoder_backend, spec.device, spec.precision
        )
        self.device: Device = opened.device
        self.choice = EncoderChoice(opened.way, "as is known or usual where it runs")
        backend = RemoteBackend(self, opened)
        self.encoder = BatchEncoder(
            model.region_encoder, opened.device, opened.way, backend=backend
        )
        self._reads = False
        self._how = ""

    def _get(self, what: str, *arguments: Any) -> Any:
        """Ask, and wait for the answer.

        Raises:
            EngineError: The run was cancelled meanwhile; or as the worker says.
        """
        try:
            return self.ask(what, *arguments).get(self._cancelled)
        except NotWantedError:
            raise _cancelled_early() from None

    def ask(self, what: str, *arguments: Any) -> Answer:
        """Let the worker do something."""
        return self._link.ask(what, *arguments)

    def wait(self, answer: Answer) -> Any:
        """Wait for an answer, while the run is wanted.

        Raises:
            NotWantedError: It is not any more.
            XTError: As the worker says.
        """
        content = answer.get(self._cancelled)
        if content is None:
            raise NotWantedError
        return content

    @property
    def run_id(self) -> str:
        """Names the run to the worker."""
        return self._spec.run_id

    def open(self, prepared: Prepared) -> None:
        """Find out whether the worker can read the slide itself, and let it.

        Args:
            prepared: The slide with its regions, as it is here.
        """
        here = versions()
        other = [name for name in _READING if here.get(name) != self._place.versions.get(name)]
        if other:
            why = f"it has another version of {other[0]}"
        else:
            spec = self._spec
            why = self._get(
                "begin",
                self.run_id,
                SlideThere(
                    path=self._elsewhere.mapped(spec.slide),
                    identity=prepared.slide.identity(),
                    slide_mpp=spec.slide_mpp,
                    accept_objective_mpp=spec.accept_objective_mpp,
                    lattice=prepared.lattice,
                    normaliser=prepared.normaliser,
                    workers=spec.workers,
                ),
            )
        self._reads = not why
        self._how = "which reads the slide itself" if not why else f"which is sent pixels, as {why}"

    @property
    def reads(self) -> bool:
        """Whether the worker reads the slide itself."""
        return self._reads

    @property
    def reason(self) -> str:
        """Why this device, and where it is, in words for the window."""
        at = _at(self._place, self._elsewhere)
        return ", ".join(filter(None, (self.device.reason, f"on {at}", self._how)))

    def parts(
        self, cells: npt.NDArray[np.int32], measured: bool
    ) -> Iterator[tuple[npt.NDArray[np.int64], Callable[[], Looked]]]:
        """Let the worker read and encode regions, some after the other.

        Args:
            cells: (n, 2) int32 (col, row).
            measured: Whether their quality is wanted.

        Yields:
            Places in `cells`, and what waits for what was found there; it raises `NotWantedError`
            when the run is cancelled.
        """
        size = self.encoder.backend.batch
        for first in range(0, len(cells), size):
            rows = np.arange(first, min(first + size, len(cells)), dtype=np.int64)
            answer = self.ask("look", self.run_id, cells[rows], measured)
            yield rows, partial(self._looked, answer)

    def _looked(self, answer: Answer) -> Looked:
        started = time.perf_counter()
        looked: Looked = self.wait(answer)
        self.encoder.seconds += time.perf_counter() - started
        self.encoder.n_encoded += 0 if looked.features is None else len(looked.features)
        return looked

    @property
    def ahead(self) -> int:
        """Parts that are worth asking for before the first is waited for."""
        return _AHEAD

    def end(self) -> None:
        """Let the worker drop what it still has of this run."""
        self.ask("end", self.run_id)


class RemoteBackend:
    """Sends pixels to a worker; see `EncoderBackend`.

    Args:
        run: Has the way to the worker.
        opened: How it encodes.
    """

    ahead = _AHEAD - 1

    def __init__(self, run: RemoteRun, opened: OpenedEncoder) -> None:
        self._run, self._opened = run, opened
        self.name = str(opened.numerics["backend"])
        self.precision = opened.way.precision
        self.batch = max(_BATCH, opened.batch)

    def numerics(self) -> dict[str, Any]:
        """Those of the worker's backend: its features are no others than if they were made here."""
        return dict(self._opened.numerics)

    def prepare(self) -> None:
        """See `EncoderBackend`; raises `NotWantedError` when the run is cancelled."""
        self._run.wait(self._run.ask("prepare"))

    def start(self, pixels: Pixels) -> _Sent:
        """See `EncoderBackend`."""
        run = self._run
        return _Sent(run, run.ask("encode", run.run_id, pixels))


class _Sent:
    """Regions that were sent to a worker."""

    def __init__(self, run: RemoteRun, answer: Answer) -> None:
        self._run, self._answer = run, answer

    def result(self) -> Features:
        """See `Pending`; raises `NotWantedError` when the run is cancelled."""
        features: Features = self._run.wait(self._answer)
        return features
