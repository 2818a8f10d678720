"""Read, encode, add context, predict: one slide through one model.

Names are loaded on first use: the window needs the events without paying for torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xt_backend import lazy

if TYPE_CHECKING:
    from .collection import Collected, collect
    from .decoder import BatchDecoder
    from .device import Device, choose_device, is_out_of_memory
    from .encoder import BatchEncoder
    from .events import Event, RegionsDecoded, RegionsScored, RunFailed, RunFinished, RunPlanned
    from .extraction import Extracted, extract, open_store
    from .preparation import Overview, Prepared, prepare
    from .run import Engine
    from .spec import RunSpec

_HOMES = {
    "BatchDecoder": "decoder",
    "BatchEncoder": "encoder",
    "Collected": "collection",
    "Device": "device",
    "Engine": "run",
    "Event": "events",
    "Extracted": "extraction",
    "Overview": "preparation",
    "Prepared": "preparation",
    "RegionsDecoded": "events",
    "RegionsScored": "events",
    "RunFailed": "events",
    "RunFinished": "events",
    "RunPlanned": "events",
    "RunSpec": "spec",
    "choose_device": "device",
    "collect": "collection",
    "extract": "extraction",
    "is_out_of_memory": "device",
    "open_store": "extraction",
    "prepare": "preparation",
}

__all__ = [
    "BatchDecoder",
    "BatchEncoder",
    "Collected",
    "Device",
    "Engine",
    "Event",
    "Extracted",
    "Overview",
    "Prepared",
    "RegionsDecoded",
    "RegionsScored",
    "RunFailed",
    "RunFinished",
    "RunPlanned",
    "RunSpec",
    "choose_device",
    "collect",
    "extract",
    "is_out_of_memory",
    "open_store",
    "prepare",
]


__getattr__ = lazy.attributes(__name__, _HOMES)
