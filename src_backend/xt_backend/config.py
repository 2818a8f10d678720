"""Options of a run: defaults, checks, and reading them from YAML."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from .errors import InputNotFoundError, UsageError
from .keys import MPP_MAX, MPP_MIN

__all__ = [
    "CommonOptions",
    "EncodingOptions",
    "ExportOptions",
    "FeatureOptions",
    "Mpp",
    "ScoreOptions",
    "cache_folder",
    "check_stride",
    "load_yaml",
    "usage_error",
]

Mpp = Annotated[float, Field(ge=MPP_MIN, le=MPP_MAX)]
"""A pixel size that a slide or a model may have, um/px."""

MAX_CONFIG_BYTES = 1_000_000
CACHE_VARIABLE = "NAPARI_XT_CACHE"


def cache_folder() -> Path:
    """Folder of the region stores: ``$NAPARI_XT_CACHE``, else the user's cache folder."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named)
    import platformdirs

    return Path(platformdirs.user_cache_dir("napari-xt", appauthor=False)) / "regions"


def _known_device(name: str) -> str:
    if re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name) is None:
        raise ValueError("It should be auto, cpu, cuda, cuda:N or mps")
    return name


class Options(BaseModel):
    """Options of a command: fixed once they are made, and none that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=False)

    @classmethod
    def checked(cls, values: dict[str, Any], written: Mapping[str, str] | None = None) -> Self:
        """Make options from plain values.

        Args:
            values: By name of the field.
            written: How the user wrote each of them, e.g. ``--stride`` for ``stride_px``.

        Raises:
            UsageError: An unknown option or a wrong value, named.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise usage_error(error, written) from error


class CommonOptions(Options):
    """What every command that reads slides understands.

    Attributes:
        slide_mpp: Pixel size of the slides in um/px, over whatever the files say.
        accept_objective_mpp: Take 10 / objective power where the file has no pixel size.
        allow_upsample: Also take slides more than 1.2 times coarser than the model.
        tissue: ``auto``, ``all`` (everything inside the slide's bounds) or a GeoJSON file.
        roi: GeoJSON file (QuPath frame) or geometry in level-0 px that limits the regions.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        batch_size: Regions handed to the encoder at once; never changes results.
        stride_px: Step between regions at model mpp; the region size when None.
        cache: Folder of the region stores; None takes `cache_folder()`.
        use_cache: False keeps nothing and reuses nothing.
        max_failed_fraction: A slide fails when more of its regions are unreadable.
        max_pixels: Slides with more level-0 pixels are refused.
        workers: Reader threads; 0 reads in the encoding thread.
    """

    slide_mpp: float | None = None
    accept_objective_mpp: bool = False
    allow_upsample: bool = False
    tissue: str = "auto"
    roi: Path | dict[str, Any] | None = None
    device: Annotated[str, AfterValidator(_known_device)] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    batch_size: Annotated[int, Field(ge=1, le=4096)] | None = None
    stride_px: Annotated[int, Field(ge=1)] | None = None
    cache: Path | None = None
    use_cache: bool = True
    max_failed_fraction: Annotated[float, Field(ge=0.0, le=1.0)] = 0.05
    max_pixels: Annotated[int, Field(ge=1)] = 400_000_000_000
    workers: Annotated[int, Field(ge=0, le=64)] = 2
    offline: bool = False

    def files(self) -> list[Path]:
        """Files and folders among the options."""
        named = [self.roi] if isinstance(self.roi, Path) else []
        if self.tissue not in ("auto", "all"):
            named.append(Path(self.tissue))
        cache = self.cache_dir()
        return named if cache is None else [*named, cache]

    def cache_dir(self) -> Path | None:
        """Folder of the region stores, or None when nothing is to be kept."""
        if not self.use_cache:
            return None
        return self.cache if self.cache is not None else cache_folder()


def usage_error(error: ValidationError, written: Mapping[str, str] | None = None) -> UsageError:
    """What is wrong with some options, in the words of the command line.

    Args:
        error: Of pydantic.
        written: How the user wrote options, by name of the field.
    """
    first = error.errors()[0]
    # Places in a list are left out: each value of an option is given by a flag of its own.
    parts = [part for part in first["loc"] if isinstance(part, str)]
    where = ".".join(parts) or "options"
    # Of an option that is a mapping, one of its values: --min-fraction tumour.
    shown = " ".join([(written or {}).get(parts[0], parts[0]), *parts[1:]]) if parts else where
    if first["type"] == "missing":
        flag = f"--{where.replace('_', '-')}"
        return UsageError(f"Missing option {flag}", f"Give {flag}, or {where} in --config")
    if first["type"] == "extra_forbidden":
        return UsageError(f"There is no option {shown}", "Check how it is written")
    rule = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return UsageError(f"The options do not fit each other: {rule}", "Correct one of them")
    rule = rule.replace("Input should", "It should", 1)
    rule = rule.replace(", unable to parse string as an integer", "")
    return UsageError(f"{shown} is {first.get('input')!r:.200}", rule)


class EncodingOptions(CommonOptions):
    """What the commands understand that only encode, and train nothing.

    Attributes:
        encoder_backend: ``auto`` takes the fastest that gives the same features, measured once
            where there is enough to encode; ``torch``, ``torch-compile`` (CUDA), ``openvino``
            or ``openvino-int8``, which is faster and less faithful.
    """

    encoder_backend: Literal["auto", "torch", "torch-compile", "openvino", "openvino-int8"] = "auto"


class ScoreOptions(EncodingOptions):
    """Options of ``score``.

    Attributes:
        model_mpp: Pixel size of a converted model whose file states none, um/px.
        context: False predicts from each region alone (the region-only head).
        layouts: Files written beside those that are always written: ``parquet`` with each slide,
            ``report`` when all of them are done.
        exclude_flagged: Leave out regions whose picture is doubtful: blurred, folded, with pen.
        screen: Share of the regions of `screen_class` that is to be looked at, with 95 %
            confidence; regions that do not look like it at low resolution are left out. None looks
            at all.
        screen_class: Classes that are sought; may be left out for a model of two classes of which
            one has a decision threshold.
        pseudonymise: File with a secret: slides go by a name that is made with it, and no output
            tells their file names. None calls them by these.
    """

    model_mpp: Mpp | None = None
    context: bool = True
    layouts: tuple[Literal["parquet", "report"], ...] = ()
    exclude_flagged: bool = False
    screen: Annotated[float, Field(ge=0.5, le=0.999)] | None = None
    screen_class: tuple[str, ...] = ()
    pseudonymise: Path | None = None

    def files(self) -> list[Path]:
        """Files and folders among the options."""
        named = super().files()
        return named if self.pseudonymise is None else [*named, self.pseudonymise]


class FeatureOptions(EncodingOptions):
    """Options of ``features``.

    Attributes:
        model_mpp: Pixel size at which regions are read, um/px.
        region_px: Side of a region at `model_mpp`.
        input_px: Side of what the encoder takes at once; `region_px` when None.
        tokens_per_region: k of k x k tokens per region.
        pooling: ``map``, or ``cls`` or ``cls+mean`` for encoders with a class token.
        weights: ``pretrained``, ``random`` (seeded) or a file: safetensors, or a
            checkpoint of torch, which is unpickled in a process of its own, weights only.
        layout: Form of the files, by the tool that reads them.
        level: One row a ``region``, or their mean for the whole ``slide``.
    """

    model_mpp: Mpp = 0.5
    region_px: Annotated[int, Field(ge=8, le=16384)] = 256
    input_px: Annotated[int, Field(ge=8)] | None = None
    tokens_per_region: Annotated[int, Field(ge=1)] = 1
    pooling: Literal["map", "cls", "cls+mean"] = "map"
    weights: str = "pretrained"
    layout: Literal["xt", "trident", "clam", "stamp", "slide2vec", "h5ad", "parquet", "h5"] = "xt"
    level: Literal["region", "slide"] = "region"


class ExportOptions(Options):
    """Options of ``export``.

    Attributes:
        level: Features of each ``region``, or of the whole ``slide``; None where none are meant.
        features: ``before`` or ``after`` the context encoder; None where none are meant.
        merged: Outlines of each class instead of regions.
        gzip: Packed.
        cache: Folder of the region stores; None for the one that the run used.
        model: Name or file of the model, for features after context; None for the run's.
    """

    level: Literal["region", "slide"] | None = None
    features: Literal["before", "after"] | None = None
    merged: bool = False
    gzip: bool = False
    cache: Path | None = None
    model: str | None = None


def check_stride(stride_px: int | None, region_px: int) -> None:
    """Refuse a stride that leaves gaps between the regions.

    Args:
        stride_px: Step between regions at model mpp; None is the region's size.
        region_px: Side of a region at model mpp.

    Raises:
        UsageError: The stride is larger than the region.
    """
    if stride_px is not None and stride_px > region_px:
        raise UsageError(
            f"--stride: {stride_px} px is more than the region's {region_px} px",
            f"Give a stride from 1 to {region_px} px",
        )


class _PlainLoader(yaml.SafeLoader):
    """Safe YAML without aliases, so nested ones cannot blow up memory."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed in a configuration")
        return super().compose_node(parent, index)


def load_yaml(path: Path, known: set[str]) -> dict[str, Any]:
    """Read options from a YAML file.

    Args:
        path: File with a mapping of option names (with ``-`` or ``_``) to values.
        known: Option names that the command has, with underscores.

    Raises:
        InputNotFoundError: There is no such file.
        UsageError: Too large, no mapping, unknown keys, tags or aliases.
    """
    if not path.is_file():
        raise InputNotFoundError(f"There is no configuration file {path}", "Check --config")
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise UsageError(
            f"The configuration file {path.name} is over {MAX_CONFIG_BYTES} bytes",
            "A configuration holds options only",
        )
    try:
        loaded = yaml.load(path.read_text(encoding="utf-8"), Loader=_PlainLoader)  # nosec B506
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # Besides bytes that are no text, a day or a number that cannot be one is a ValueError.
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(
            f"{path.name} is not plain YAML: {line}",
            "Write one option a line, such as `batch_size: 8`",
        ) from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise UsageError(
            f"{path.name} holds no mapping of options", "Write one `name: value` a line"
        )
    options: dict[str, Any] = {}
    for key, value in loaded.items():
        name = str(key).replace("-", "_")
        if name not in known:
            listed = ", ".join(sorted(known))
            raise UsageError(f"{path.name}: unknown option '{key}'", f"Known are: {listed}")
        options[name] = value
    return options
