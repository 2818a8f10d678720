"""Flags that several commands share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar

import typer
from pydantic import TypeAdapter, ValidationError

from xt_backend.config import CommonOptions, load_yaml, usage_error
from xt_backend.errors import UsageError

from .console import want_json

__all__ = [
    "JsonOption",
    "OutOption",
    "check_slide_mpp",
    "given_flags",
    "listed",
    "merge_options",
    "on_off",
]

Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout; logs go to stderr.")
]
Inputs: TypeAlias = Annotated[
    list[Path],
    typer.Argument(
        metavar="INPUT",
        readable=False,  # who reads it finds out: one that may not be read ends no batch
        help="Slides, DICOM folders, folders of slides, or a manifest (CSV or Parquet) with a "
        "column 'slide'.",
    ),
]
OneSlide: TypeAlias = Annotated[
    Path, typer.Argument(metavar="SLIDE", readable=False, help="Slide file or DICOM folder.")
]
Config: TypeAlias = Annotated[
    Path | None, typer.Option("--config", help="YAML file with any of these options; flags win.")
]
SlideMpp: TypeAlias = Annotated[
    float | None, typer.Option(help="Pixel size in um/px, over whatever the file says.")
]
ModelMpp: TypeAlias = Annotated[
    float | None, typer.Option(help="Pixel size of a converted model that states none, um/px.")
]
AcceptObjectiveMpp: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--accept-objective-mpp",
        help="Where the file has no pixel size, take 10 / objective power.",
    ),
]
AllowUpsample: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--allow-upsample", help="Also take slides over 1.2 times coarser than the model."
    ),
]
Roi: TypeAlias = Annotated[
    Path | None, typer.Option(help="GeoJSON (QuPath) file; only regions that touch it are scored.")
]
Tissue: TypeAlias = Annotated[
    str | None,
    typer.Option(help="auto, all (the slide's bounds), or a GeoJSON file [default: auto]."),
]
Device: TypeAlias = Annotated[
    str | None,
    typer.Option(help="auto (cuda, then mps, then cpu), cpu, cuda, cuda:N or mps [default: auto]."),
]
Precision: TypeAlias = Annotated[
    str | None, typer.Option(help="auto, fp32, bf16 or fp16 [default: auto].")
]
EncoderBackend: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="auto (the fastest that gives the same features), torch, torch-compile, openvino or "
        "openvino-int8 (faster, less faithful) [default: auto]."
    ),
]
BatchSize: TypeAlias = Annotated[
    int | None, typer.Option(help="Regions read at once [default: 16]; results never depend on it.")
]
Cache: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="Folder for region features [default: $NAPARI_XT_CACHE or user cache]."),
]
NoCache: TypeAlias = Annotated[
    bool | None, typer.Option("--no-cache", help="Keep no features and reuse none.")
]
Stride: TypeAlias = Annotated[
    int | None, typer.Option(help="Step between regions in px at model mpp [default: region size].")
]
Workers: TypeAlias = Annotated[int | None, typer.Option(help="Reader threads [default: 2].")]
MaxFailedFraction: TypeAlias = Annotated[
    float | None,
    typer.Option(help="A slide fails when a larger share is unreadable [default: 0.05]."),
]
MaxPixels: TypeAlias = Annotated[
    int | None,
    typer.Option(help="Refuse slides with more level-0 pixels [default: 400000000000]."),
]
Labels: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="CSV with the columns slide, label and, if known, patient."),
]
Annotations: TypeAlias = Annotated[
    Path | None, typer.Option(help="Folder with one QuPath GeoJSON a slide [default: slides].")
]
Name: TypeAlias = Annotated[str | None, typer.Option(help="The model's name [default: from out].")]
Seed: TypeAlias = Annotated[int | None, typer.Option(help="Same seed, same model [default: 0].")]
Weights: TypeAlias = Annotated[
    str | None,
    typer.Option(help="pretrained, random (seeded) or a file of weights [default: pretrained]."),
]
Pooling: TypeAlias = Annotated[
    str | None,
    typer.Option(help="map, or cls or cls+mean where there is a class token [default: map]."),
]
Pseudonymise: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="KEYFILE",
        help="Call slides by names made with this secret; no output tells their file names.",
    ),
]
ExcludeFlagged: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--exclude-flagged", help="Leave out regions that are blurred, folded or marked with a pen."
    ),
]
RetryFailed: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--retry-failed",
        help="Only what failed, or was not reached, in the run in --out; the rest is left alone.",
    ),
]
Offline: TypeAlias = Annotated[
    bool | None, typer.Option("--offline", help="Never download; local files only.")
]

OptionsType = TypeVar("OptionsType", bound=CommonOptions)


@dataclass(frozen=True, kw_only=True)
class JsonOption:
    """What every command has beside the options of its work."""

    json: bool = False


@dataclass(frozen=True, kw_only=True)
class OutOption(JsonOption):
    """What a command has that writes into a folder."""

    out: Path


OwnType = TypeVar("OwnType", bound=JsonOption)

_FLAGS = {"stride": "stride_px", "no_cache": "use_cache", "no_resume": "resume"}
"""Flags that have another name than their option; those with ``no_`` are its opposite."""


def listed(text: str | None) -> tuple[str, ...] | None:
    """The names of a comma-separated flag; None where it was not given, or is empty."""
    return tuple(part.strip() for part in text.split(",")) if text else None


def given_flags(parameters: Mapping[str, Any], *others: str, **read: Any) -> dict[str, Any]:
    """The options that were given on the command line, for `merge_options`.

    Args:
        parameters: Of the command: its `locals()`, before it has any other.
        others: Parameters that are no options of the work.
        read: In place of the parameters of these names, which come as text; None for not given.
    """
    known = {name: value for name, value in parameters.items() if name not in ("config", *others)}
    # A flag that was not given is None, False or, where it may come several times, empty.
    plain = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in known.items()
        if value is not None and value is not False and value != [] and name not in read
    }
    return plain | {name: value for name, value in read.items() if value is not None}


def merge_options(
    kind: type[OptionsType], config: Path | None, flags: dict[str, Any], own: type[OwnType]
) -> tuple[OptionsType, OwnType]:
    """Options from a YAML file and from flags; flags win, None means not given.

    Args:
        kind: The options of the work.
        config: YAML file with names as on the command line or as in `kind`, or None.
        flags: As of `given_flags`, for `kind` and for `own`.
        own: Dataclass of the options that only the command knows.

    Returns:
        The options of the work, and those of the command.

    Raises:
        UsageError: An option that is unknown, wrong, named twice or missing.
    """
    own_names = {field.name for field in fields(own)}
    values: dict[str, Any] = {}
    written: dict[str, str] = {}
    if config is not None:
        flags_of_kind = {flag for flag, field in _FLAGS.items() if field in kind.model_fields}
        known = {*kind.model_fields, *own_names, *flags_of_kind}
        loaded = load_yaml(config, known)
        values = _by_field(loaded, config.name)
        written = {_FLAGS.get(name, name): f"{config.name}: {name}" for name in loaded}
    given = {name: value for name, value in flags.items() if value is not None}
    values |= _by_field(given)
    written |= {_FLAGS.get(name, name): f"--{name.replace('_', '-')}" for name in given}
    if values.get("json") is True:
        want_json(True)
    try:
        chosen = TypeAdapter(own).validate_python(
            {name: values.pop(name) for name in own_names & values.keys()}
        )
    except ValidationError as error:
        raise usage_error(error, written) from error
    options = kind.checked(values, written)
    check_slide_mpp(options.slide_mpp)
    return options, chosen


def _by_field(values: dict[str, Any], where: str = "flags") -> dict[str, Any]:
    """Options by the names of their fields."""
    named: dict[str, Any] = {}
    for name, value in values.items():
        field = _FLAGS.get(name, name)
        if field in named:
            raise UsageError(f"{where}: {name} and {field} are one option", "Name it once")
        if name in _FLAGS and name.startswith("no_"):
            if not isinstance(value, bool):
                raise UsageError(f"{where}: {name} is {value!r}", "Write true or false")
            value = not value
        named[field] = value
    return named


def check_slide_mpp(given: float | None, flag: str = "--slide-mpp") -> None:
    """A bad pixel size given by flag is bad usage, not a failed row.

    Raises:
        UsageError: It is no pixel size that a slide can have.
    """
    if given is None:
        return
    from xt_backend.errors import SlideMppError
    from xt_backend.slides import check_mpp

    try:
        check_mpp(given, given)
    except SlideMppError as error:
        raise UsageError(f"{flag}: {error.cause}", error.way_out) from error


def on_off(flag: str, value: str) -> bool:
    """``on`` or ``off`` as a truth value.

    Raises:
        UsageError: Anything else.
    """
    if value not in ("on", "off"):
        raise UsageError(
            f"{flag}: '{value}' is neither on nor off", f"Write {flag} on or {flag} off"
        )
    return value == "on"
