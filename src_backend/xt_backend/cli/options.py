"""Flags that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar

import typer

from xt_backend.config import CommonOptions, load_yaml
from xt_backend.errors import UsageError

__all__ = ["merge_options"]

Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout; logs go to stderr.")
]
Inputs: TypeAlias = Annotated[
    list[Path],
    typer.Argument(
        help="Slides, DICOM folders, folders of slides, or a manifest CSV with a column 'slide'."
    ),
]
Config: TypeAlias = Annotated[
    Path | None, typer.Option("--config", help="YAML file with any of these options; flags win.")
]
SlideMpp: TypeAlias = Annotated[
    float | None, typer.Option(help="Pixel size in um/px, over whatever the file says.")
]
ModelMpp: TypeAlias = Annotated[float | None, typer.Option(help="Pixel size of the model, um/px.")]
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
    Path | None, typer.Option(help="GeoJSON (QuPath) file; only regions that touch it are read.")
]
Tissue: TypeAlias = Annotated[
    str | None,
    typer.Option(help="auto, all (everything inside the slide's bounds), or a GeoJSON file."),
]
Device: TypeAlias = Annotated[
    str | None, typer.Option(help="auto (cuda, then mps, then cpu), cpu, cuda, cuda:N or mps.")
]
Precision: TypeAlias = Annotated[str | None, typer.Option(help="auto, fp32, bf16 or fp16.")]
BatchSize: TypeAlias = Annotated[
    int | None, typer.Option(help="Regions handed on at once; results never depend on it.")
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
    typer.Option(help="A slide fails when more of its regions are unreadable [default: 0.05]."),
]
MaxPixels: TypeAlias = Annotated[
    int | None,
    typer.Option(help="Refuse slides with more level-0 pixels [default: 400000000000]."),
]
Labels: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="CSV with the columns slide, label and if known patient: one label a slide."),
]
Offline: TypeAlias = Annotated[
    bool | None, typer.Option("--offline", help="Never download; local files only.")
]

OptionsType = TypeVar("OptionsType", bound=CommonOptions)


def merge_options(
    kind: type[OptionsType], config: Path | None, flags: dict[str, Any]
) -> OptionsType:
    """Options from a YAML file and from flags; flags win, None means not given.

    Raises:
        UsageError: An unknown or wrong value, named.
    """
    values = load_yaml(config, set(kind.model_fields)) if config else {}
    given = {name: value for name, value in flags.items() if value is not None}
    if given.pop("no_cache", False):
        given["use_cache"] = False
    if "stride" in given:
        given["stride_px"] = given.pop("stride")
    values.update(given)
    options = kind.checked(values)
    _check_mpp(options)
    if options.offline:
        import os

        os.environ["HF_HUB_OFFLINE"] = "1"
    return options


def _check_mpp(options: CommonOptions) -> None:
    """A bad pixel size given by flag is bad usage, not a failed row."""
    if options.slide_mpp is None:
        return
    from xt_backend.errors import SlideMppError
    from xt_backend.slides import check_mpp

    try:
        check_mpp(options.slide_mpp, options.slide_mpp)
    except SlideMppError as error:
        raise UsageError(f"--slide-mpp: {error.cause}", error.way_out) from error


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
