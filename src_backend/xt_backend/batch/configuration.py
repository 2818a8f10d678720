"""What makes two runs the same run: the configuration that results depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xt_backend.config import CommonOptions, ScoreOptions
from xt_backend.engine.installed import versions
from xt_backend.errors import InputNotFoundError, UsageError
from xt_backend.slides import read_area

__all__ = ["digest", "plain_options", "score_configuration", "versions", "without_limits"]

_NO_RESULT = {
    "batch_size",
    "workers",
    "cache",
    "use_cache",
    "offline",
    "device",
    "precision",
    "encoder_backend",
    "max_failed_fraction",
    "max_pixels",
    "layouts",
}
"""Options that change how a result is reached, what is refused or which files are written, but no
result, or that are resolved first."""


def score_configuration(
    options: ScoreOptions,
    model_name: str,
    model_sha256: str,
    device: str,
    precision: str,
    encoder: Mapping[str, Any],
) -> dict[str, Any]:
    """Configuration of a `score` run, without any path.

    Files among the options (ROI, tissue) stand as the sha256 of their content.

    Args:
        options: As asked for.
        model_name: Of the model.
        model_sha256: Of its weights.
        device: Name of the device.
        precision: Of all but the region encoder.
        encoder: What `BatchEncoder.told` says of the region encoder.
    """
    return {
        "command": "score",
        "model": {"name": model_name, "sha256": model_sha256},
        "options": plain_options(options),
        "device": device.split(":")[0],
        "precision": precision,
        **encoder,
    }


def plain_options(options: CommonOptions) -> dict[str, Any]:
    """Options that results depend on, as JSON; files as content hashes."""
    values = options.model_dump(mode="json", exclude=set(_NO_RESULT))
    if values.get("screen", ...) is None:
        # Runs that look at everything are those of before there was a choice.
        del values["screen"], values["screen_class"]
    elif "screen" in values:
        values["screen_class"] = sorted(set(values["screen_class"]))
    if values.get("level") == "region":
        del values["level"]  # as before there was a choice
    if not values.get("exclude_flagged", True):
        del values["exclude_flagged"]
    # Nothing of the key: with another one no slide has the name that it had.
    if values.pop("pseudonymise", None) is not None:
        values["pseudonymise"] = True
    if isinstance(options.roi, Path):
        values["roi"] = _content(options.roi, "--roi")
    if options.tissue not in ("auto", "all"):
        values["tissue"] = _content(Path(options.tissue), "--tissue")
    return values


def without_limits(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as it would be written now: older ones hold more of the options.

    Args:
        configuration: Of a run.json.

    Raises:
        TypeError: It holds no options.
    """
    options = configuration["options"]
    if not isinstance(options, Mapping):
        raise TypeError("the options are no mapping")
    kept = {name: value for name, value in options.items() if name not in _NO_RESULT}
    return {**configuration, "options": kept}


def _content(path: Path, flag: str) -> str:
    if not path.is_file():
        raise InputNotFoundError(f"There is no file {path.name}", f"Check {flag}")
    read_area(path)  # what no slide can use is refused before the first one
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{path.name} cannot be read: {error.strerror}", f"Check {flag}"
        ) from error
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def digest(configuration: dict[str, Any]) -> str:
    """sha256 of a configuration."""
    text = json.dumps(configuration, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
