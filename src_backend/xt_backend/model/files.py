"""Model files: one safetensors file, with the card in its header."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from xt_backend.errors import ModelError
from xt_backend.model.card import CARD_KEY, ModelCard
from xt_backend.model.context import default_options
from xt_backend.model.deferred import DeferredEncoder
from xt_backend.model.header import Header, file_sha256, read_card, read_header
from xt_backend.model.library import find_model
from xt_backend.model.reference import ReferenceXT
from xt_backend.model.region import RegionEncoder
from xt_backend.model.region_encoders import build_region_encoder, encoder_from_card
from xt_backend.model.state import state_sha256, tensors_sha256
from xt_backend.model.xt import XT
from xt_backend.publishing import publish_bytes

__all__ = ["load_model", "save_model"]

_ENCODER = "region_encoder."
_HUB = "hf-hub:"
_RANDOM = "random:"
_AGAIN = "get the file again, or make the model again with this version"
_DTYPES = {torch.float32: "F32", torch.float64: "F64", torch.float16: "F16",
           torch.bfloat16: "BF16", torch.int64: "I64", torch.int32: "I32",
           torch.uint8: "U8", torch.bool: "BOOL"}  # fmt: skip


def save_model(model: XT | ReferenceXT, path: str | os.PathLike[str]) -> ModelCard:
    """Write a model; the file appears under its name only when it is complete.

    The same model gives the same bytes. Encoder tensors whose values are all float16 values (see
    `RegionEncoder.round_to_half`) are stored in two bytes each, at no loss.

    Args:
        model: Its card says whether the encoder is embedded.
        path: Its folder has to exist.

    Returns:
        The card as written, with all hashes; also `model.card` from now on.

    Raises:
        ModelError: The encoder is not to be embedded, but could not be fetched again.
        OutputError: Cannot write; `NoSpaceError` where the disk is full.
    """
    path = Path(path)
    info = model.region_encoder.refresh_sha256(embedded=model.card.region_encoder.embedded)
    if not info.embedded and not info.source.startswith((_HUB, _RANDOM)):
        raise ModelError(
            f"Region encoder {info.name} from {info.source or 'nowhere'} could not be found again",
            "embed it in the model file",
        )
    encoder = model.region_encoder
    context = model.card.context
    # The reference's layers have no defaults: its card holds all sizes.
    defaults = default_options(context.kind) if isinstance(model, XT) else {}
    options = {**defaults, **context.options}
    card = model.card.model_copy(
        update={
            "region_encoder": info,
            "context": context.model_copy(update={"options": options}),
            "mean": tuple(round(value, 7) for value in encoder.mean.flatten().tolist()),
            "std": tuple(round(value, 7) for value in encoder.std.flatten().tolist()),
            "state_sha256": state_sha256(model),
        }
    )
    card = ModelCard.from_json(card.to_json(), where=path.name)
    tensors = {
        name: _compact(name, tensor.detach().cpu().contiguous())
        for name, tensor in model.state_dict().items()
        if info.embedded or not name.startswith(_ENCODER)
    }
    publish_bytes(path, save(tensors, {CARD_KEY: card.to_json()}))
    model.card = card
    return card


def load_model(
    name_or_path: str | os.PathLike[str],
    *,
    sha256: str | None = None,
    offline: bool | None = None,
    defer_encoder: bool = False,
) -> XT | ReferenceXT:
    """Load a model in eval mode, on the CPU, in float32.

    Its forward takes an image (B, 3, H, W) float32, already normalised, H and W multiples of
    region_px, to logits: (B, C) for slide task and layout ``reference``, (B, C, rows, cols) for
    region task.

    Only safetensors is read. Every tensor of the file has to fit and every weight of the model
    has to be in the file; both hashes of the card are checked.

    Args:
        name_or_path: Name of a bundled or local model, or a path.
        sha256: If given, the file's SHA-256 has to be this.
        offline: True never downloads a region encoder that is not embedded; None asks
            HF_HUB_OFFLINE.
        defer_encoder: Make an embedded region encoder when the first region needs it, see
            `DeferredEncoder`; dense and detection models have theirs at once.

    Raises:
        InputNotFoundError: No such file.
        ModelError: No model of that name, or a file that is refused, with the reason.
    """
    path = find_model(name_or_path)
    if sha256 is not None:
        found = file_sha256(path)
        if found != sha256.lower():
            raise ModelError(
                f"{path.name} has sha256 {found}, wanted was {sha256}",
                "get the file again, or correct the pin",
            )
    header = read_header(path)
    card = read_card(path)
    tensors = _read_tensors(path)
    if card.layout == "reference":
        model: XT | ReferenceXT = ReferenceXT(card)
    elif defer_encoder and card.region_encoder.embedded and not card.has_dense_head:
        model = XT(card, _deferred(card, tensors, header, path.name))
    else:
        model = XT(card, _encoder(card, offline))
    deferred = isinstance(model.region_encoder, DeferredEncoder)
    embedded = card.region_encoder.embedded
    kept = {
        name: form
        for name, form in header.tensors.items()
        if not (deferred and name.startswith(_ENCODER))
    }
    wanted = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if embedded or not name.startswith(_ENCODER)
    }
    _check_tensors(wanted, kept, path.name)
    state = model.state_dict()
    for name in kept:
        state[name].copy_(tensors[name])
    if deferred:
        state = {name: _expanded(name, tensor) for name, tensor in tensors.items()}
        of_encoder = {
            name.removeprefix(_ENCODER): tensor
            for name, tensor in state.items()
            if name.startswith(_ENCODER)
        }
    else:
        of_encoder = model.region_encoder.state_dict()
    _check_hash("region encoder", of_encoder, card.region_encoder.sha256, path.name)
    _check_hash("weights", state, card.state_sha256, path.name)
    return model.eval()


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path.name} could not be read: {str(error).splitlines()[0]}", "get the file again"
        ) from error


def _deferred(
    card: ModelCard, tensors: dict[str, Tensor], header: Header, name: str
) -> DeferredEncoder:
    """The encoder of a file, made of its tensors when it is needed; the caller checks hashes."""
    of_dim = "reduce.mean" if card.reduce.components else "reduce.project.weight"
    form = header.tensors.get(of_dim)
    if form is None or not form[1]:
        raise ModelError(f"The tensors of {name} do not fit its card; missing: {of_dim}", _AGAIN)
    forms = {key: form for key, form in header.tensors.items() if key.startswith(_ENCODER)}

    def make() -> RegionEncoder:
        encoder = encoder_from_card(card)
        state = {_ENCODER + key: tensor for key, tensor in encoder.state_dict().items()}
        _check_tensors(state, forms, name)
        for key, tensor in state.items():
            tensor.copy_(tensors[key])
        return encoder.eval()

    return DeferredEncoder(card, form[1][-1], make)


def _encoder(card: ModelCard, offline: bool | None) -> RegionEncoder:
    info = card.region_encoder
    if info.embedded:
        return encoder_from_card(card)
    from_hub = info.source.startswith(_HUB)
    seed = "0" if from_hub else info.source.removeprefix(_RANDOM)
    if not from_hub and not (info.source.startswith(_RANDOM) and seed.isdecimal()):
        raise ModelError(
            f"Model {card.name} lacks its region encoder {info.name}", "get a complete file"
        )
    encoder = build_region_encoder(
        info.source if from_hub else info.name,
        region_px=card.region_px,
        input_px=card.input_px,
        tokens_per_region=card.tokens_per_region,
        pooling=info.pooling,
        weights="pretrained" if from_hub else "random",
        seed=int(seed),
        revision=info.revision or None,
        backbone_args=info.backbone_args,
        mean=card.mean,
        std=card.std,
        offline=offline,
        allow_pickles=False,
    )
    encoder.info = info
    return encoder


def _check_tensors(
    tensors: dict[str, Tensor], given: dict[str, tuple[str, tuple[int, ...]]], name: str
) -> None:
    """Raise unless a file gives exactly the tensors that a module has."""
    wanted = {key: (_DTYPES[one.dtype], tuple(one.shape)) for key, one in tensors.items()}
    missing = [key for key in wanted if key not in given]
    extra = [key for key in given if key not in wanted]
    misshaped = [
        f"{key} {given[key][0]} {list(given[key][1])} instead of {want[0]} {list(want[1])}"
        for key, want in wanted.items()
        if key in given and given[key] != want and not _is_compact(key, given[key], want)
    ]
    problems = [
        f"{what}: {', '.join(keys[:8])}{f' and {len(keys) - 8} more' if len(keys) > 8 else ''}"
        for what, keys in (("missing", missing), ("extra", extra), ("mis-shaped", misshaped))
        if keys
    ]
    if problems:
        raise ModelError(
            f"The tensors of {name} do not fit its card; {'; '.join(problems)}",
            _AGAIN,
        )


def _check_hash(what: str, tensors: dict[str, Tensor], wanted: str, name: str) -> None:
    if not wanted or tensors_sha256(tensors) != wanted:
        raise ModelError(
            f"The {what} of {name} do not have the sha256 that its card names",
            "the file is damaged or was changed by hand; get it again",
        )


def _compact(name: str, tensor: Tensor) -> Tensor:
    if name.startswith(_ENCODER) and tensor.dtype == torch.float32:
        half = tensor.to(torch.float16)
        if torch.equal(half.to(torch.float32), tensor):
            return half
    return tensor


def _expanded(name: str, tensor: Tensor) -> Tensor:
    """A tensor of the file as the module has it: undoes `_compact`."""
    half = name.startswith(_ENCODER) and tensor.dtype == torch.float16
    return tensor.to(torch.float32) if half else tensor


def _is_compact(
    key: str, given: tuple[str, tuple[int, ...]], want: tuple[str, tuple[int, ...]]
) -> bool:
    return key.startswith(_ENCODER) and (given[0], want[0]) == ("F16", "F32") and (
        given[1] == want[1]
    )  # fmt: skip
