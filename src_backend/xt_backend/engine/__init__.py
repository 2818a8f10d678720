"""Read, encode, add context, predict: one slide through one model.

Names are loaded on first use: the window needs the events without paying for torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xt_backend import lazy

if TYPE_CHECKING:
    from .ahead import Ahead, Wish
    from .collection import Collected, collect, features_shape
    from .context_features import ContextFeatures
    from .decoder import BatchDecoder
    from .device import Device, choose_device, is_out_of_memory
    from .elsewhere import Elsewhere, path_pairs
    from .encoder import BatchEncoder
    from .encoders import (
        EncoderChoice,
        Judge,
        Way,
        asked_way,
        check_backend,
        known_choice,
        usual_way,
    )
    from .encoders.choose import ENOUGH_REGIONS
    from .encoding import (
        judge_of,
        kept_encoders,
        remember_encoder,
        settle_encoder,
        torch_instead,
    )
    from .events import (
        Event,
        RegionsDecoded,
        RegionsEncoded,
        RegionsScored,
        RunFailed,
        RunFinished,
        RunPlanned,
    )
    from .extraction import Extracted, extract, key_of_run, open_store
    from .familiarity import corrected_mark
    from .known import known_regions
    from .pace import PaceJob, measure_pace
    from .preparation import Overview, Prepared, lattice_of, prepare
    from .run import Engine
    from .screening import sought_in
    from .spec import RunSpec
    from .stages import BESIDE, PARTS, STAGES, Stages, peak_memory_bytes

_HOMES = {
    "BESIDE": "stages",
    "ENOUGH_REGIONS": "encoders.choose",
    "PARTS": "stages",
    "STAGES": "stages",
    "Ahead": "ahead",
    "BatchDecoder": "decoder",
    "BatchEncoder": "encoder",
    "Collected": "collection",
    "ContextFeatures": "context_features",
    "Device": "device",
    "Elsewhere": "elsewhere",
    "EncoderChoice": "encoders",
    "Engine": "run",
    "Event": "events",
    "Extracted": "extraction",
    "Judge": "encoders",
    "Overview": "preparation",
    "PaceJob": "pace",
    "Prepared": "preparation",
    "RegionsDecoded": "events",
    "RegionsEncoded": "events",
    "RegionsScored": "events",
    "RunFailed": "events",
    "RunFinished": "events",
    "RunPlanned": "events",
    "RunSpec": "spec",
    "Stages": "stages",
    "Way": "encoders",
    "Wish": "ahead",
    "asked_way": "encoders",
    "check_backend": "encoders",
    "choose_device": "device",
    "collect": "collection",
    "corrected_mark": "familiarity",
    "extract": "extraction",
    "features_shape": "collection",
    "is_out_of_memory": "device",
    "judge_of": "encoding",
    "kept_encoders": "encoding",
    "key_of_run": "extraction",
    "known_choice": "encoders",
    "known_regions": "known",
    "lattice_of": "preparation",
    "measure_pace": "pace",
    "open_store": "extraction",
    "path_pairs": "elsewhere",
    "peak_memory_bytes": "stages",
    "prepare": "preparation",
    "remember_encoder": "encoding",
    "settle_encoder": "encoding",
    "sought_in": "screening",
    "torch_instead": "encoding",
    "usual_way": "encoders",
}

__all__ = [
    "BESIDE",
    "ENOUGH_REGIONS",
    "PARTS",
    "STAGES",
    "Ahead",
    "BatchDecoder",
    "BatchEncoder",
    "Collected",
    "ContextFeatures",
    "Device",
    "Elsewhere",
    "EncoderChoice",
    "Engine",
    "Event",
    "Extracted",
    "Judge",
    "Overview",
    "PaceJob",
    "Prepared",
    "RegionsDecoded",
    "RegionsEncoded",
    "RegionsScored",
    "RunFailed",
    "RunFinished",
    "RunPlanned",
    "RunSpec",
    "Stages",
    "Way",
    "Wish",
    "asked_way",
    "check_backend",
    "choose_device",
    "collect",
    "corrected_mark",
    "extract",
    "features_shape",
    "is_out_of_memory",
    "judge_of",
    "kept_encoders",
    "key_of_run",
    "known_choice",
    "known_regions",
    "lattice_of",
    "measure_pace",
    "open_store",
    "path_pairs",
    "peak_memory_bytes",
    "prepare",
    "remember_encoder",
    "settle_encoder",
    "sought_in",
    "torch_instead",
    "usual_way",
]


__getattr__ = lazy.attributes(__name__, _HOMES)
