"""Where the features of a slide come from."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from xt_backend.config import CommonOptions
from xt_backend.errors import DeviceError
from xt_backend.store import RegionStore

from .device import Device
from .encoder import BatchEncoder
from .encoders import EncoderChoice, Way
from .encoding import torch_instead
from .extraction import open_store
from .preparation import Prepared
from .remote import RemoteRun

__all__ = ["Source", "open_source"]


@dataclass(frozen=True)
class Source:
    """The region store of a slide, and the encoder of what is not there yet.

    Attributes:
        choice: How the encoder computes, and why.
        encoder: Computes so.
        store: What it has computed before; None keeps nothing.
        n_cached: Regions of the slide that are in the store.
        n_missing: Those that are not.
        earlier: What was found wrong with a store that was opened before, as sentences.
        remote: Whose encoder it is; None where that is this machine's own.
    """

    choice: EncoderChoice
    encoder: BatchEncoder
    store: RegionStore | None
    n_cached: int
    n_missing: int
    earlier: tuple[str, ...] = ()
    remote: RemoteRun | None = None

    @classmethod
    def of(
        cls, prepared: Prepared, choice: EncoderChoice, encoder: BatchEncoder, spec: CommonOptions
    ) -> Source:
        """Open the store that belongs to an encoder.

        Raises:
            StoreError: As of `RegionStore.open`.
        """
        store = open_store(prepared, encoder, spec.cache_dir())
        n_cached = int(store.has(prepared.cells).sum()) if store is not None else 0
        return cls(choice, encoder, store, n_cached, len(prepared.cells) - n_cached)

    @property
    def reads_there(self) -> RemoteRun | None:
        """Who reads the slide where it is encoded; None where this machine reads it."""
        return self.remote if self.remote is not None and self.remote.reads else None

    @property
    def problems(self) -> tuple[str, ...]:
        """What was found wrong with stores so far, as sentences."""
        return (*self.earlier, *(self.store.problems if self.store is not None else ()))

    def prepare(self) -> None:
        """Find out whether the encoder can compute as was chosen, where it has to.

        Torch as usual is made with the first region instead.

        Raises:
            DeviceError: It cannot.
            ModelError: Its weights do not fit it.
        """
        if self.encoder.unusual and self.n_missing:
            self.encoder.prepare()


def open_source(
    prepared: Prepared,
    choice: EncoderChoice,
    device: Device,
    spec: CommonOptions,
    make_encoder: Callable[[Way], BatchEncoder],
    loading: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Source:
    """Open a slide's store and encoder; torch where what was chosen by itself cannot be had.

    Args:
        prepared: A slide with its regions.
        choice: How to encode.
        device: Where.
        spec: Says where features are kept.
        make_encoder: Makes the encoder of a way.
        loading: Entered while encoders are made.

    Raises:
        DeviceError: Torch cannot be had either.
        ModelError: The encoder's weights do not fit it.
        StoreError: As of `RegionStore.open`.
    """
    earlier: tuple[str, ...] = ()

    def opened(choice: EncoderChoice) -> Source:
        with loading():
            encoder = make_encoder(choice.way)
        return Source.of(prepared, choice, encoder, spec)

    try:
        source = opened(choice)
        earlier = source.problems  # damage is moved aside, and found only once
        with loading():
            source.prepare()
    except DeviceError as error:
        return replace(opened(torch_instead(choice, device, error)), earlier=earlier)
    return source
