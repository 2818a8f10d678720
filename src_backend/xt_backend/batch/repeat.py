"""Doing a finished run again, exactly: what run.json and local.json say of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xt_backend.config import ScoreOptions
from xt_backend.engine import Way
from xt_backend.errors import InputNotFoundError, StoreError, UsageError
from xt_backend.keys import RunFile
from xt_backend.outputs import read_json
from xt_backend.store import differences

from .configuration import without_limits

__all__ = ["Repeat", "check_repeated", "read_repeat"]

_HERE = "Repeat it on the machine and in the folder where it was made"


@dataclass(frozen=True)
class Repeat:
    """What was asked for in an earlier run of ``score``.

    Attributes:
        inputs: Slides, folders and manifests, absolute.
        model: Name or file of the model.
        options: By name of the field of `ScoreOptions`, with the encoder backend that was taken.
        configuration: What its results depend on.
    """

    inputs: tuple[Path, ...]
    model: str
    options: dict[str, Any]
    configuration: dict[str, Any]


def read_repeat(run_json: Path) -> Repeat:
    """What repeats a run.

    Args:
        run_json: Its run.json, with local.json beside it.

    Raises:
        InputNotFoundError: One of the two is not there.
        UsageError: They are damaged, of another command or of a version that kept too little.
    """
    files = []
    for path in (run_json, run_json.with_name(RunFile.LOCAL_JSON)):
        if not path.is_file():
            raise InputNotFoundError(f"There is no {path.name} in {path.parent}", _HERE)
        try:
            files.append(read_json(path))
        except StoreError as error:
            raise UsageError(error.cause, "Name the run.json of a finished run") from error
    told, local = files
    try:
        configuration = without_limits(told["configuration"])
        command = configuration["command"]
        then = Path(local["working_folder"])
        options = ScoreOptions.checked(local["options"]).model_dump(exclude_unset=True)
        for name in ("roi", "cache", "pseudonymise"):
            if isinstance(named := options.get(name), Path):
                options[name] = then / named
        if options["tissue"] not in ("auto", "all"):
            options["tissue"] = str(then / options["tissue"])
        options["encoder_backend"] = Way.from_dict(told["encoder"]["way"]).backend
        found = Repeat(
            tuple(Path(path) for path in local["inputs"]),
            str(then / local["model"]),
            options,
            configuration,
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(
            f"{RunFile.RUN_JSON} and {RunFile.LOCAL_JSON} in {run_json.parent} do not say what "
            "was run",
            "Run score with the options of the earlier run",
        ) from error
    if command != "score":
        raise UsageError(f"{run_json} is of the command {command}", "Repeat runs of score")
    return found


def check_repeated(configuration: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse to repeat a run that would give something else.

    Args:
        configuration: What results would depend on now.
        wanted: What those of the earlier run depend on.

    Raises:
        UsageError: They differ; the first difference is named.
    """
    if different := differences(wanted, configuration):
        key, there, here = different[0]
        raise UsageError(
            f"The run cannot be repeated: {key} was {there!r}, and is {here!r} here",
            "Use the same model, device and versions, or run score anew",
        )
