"""Which kind of files an export folder holds: tools tell them apart by their folder alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xt_backend.errors import OutputConflictError
from xt_backend.keys import RunFile
from xt_backend.outputs import read_json, write_run_json
from xt_backend.store import differences, make_folder

__all__ = ["claim_folder"]

_UNNAMED = {".h5", ".pt"}
"""Endings of files whose names do not tell what is in them."""
_NUMERICS = ("encoder", "encoder_args", "weights_sha256", "tokens_per_region", "pooling")
_OPTIONS = ("model_mpp", "region_px", "input_px", "stride_px")


def claim_folder(folder: Path, kind: str, run: Mapping[str, Any]) -> None:
    """Make a folder that holds one kind of files, or see that it is one of the same kind.

    ``export.json`` in it says which: ``<id>.h5`` may be STAMP's or anyone's, before context or
    after, of one model or another. Several runs of one model may share a folder.

    Args:
        folder: Where the files are to go.
        kind: Of the files, such as ``stamp-context``.
        run: Content of the run's run.json.

    Raises:
        OutputConflictError: It holds another kind, or what nobody noted, or a run.
        StoreError: Its export.json is damaged.
        OutputError: It cannot be written.
    """
    note = folder / RunFile.EXPORT_JSON
    asked = {"kind": kind, "made_with": _made_with(run.get("configuration", {}))}
    if note.is_file():
        if different := differences(read_json(note), asked):
            key, there, here = different[0]
            raise OutputConflictError(
                f"The folder {folder} holds another export: {key} is {there!r} there, and {here!r} "
                "was asked for",
                "Name another folder with --out, or leave it out",
            )
        return
    if (folder / RunFile.RUN_JSON).is_file():
        raise OutputConflictError(
            f"The folder {folder} holds a run, whose files {kind} could not be told from",
            "Name another folder with --out, or leave it out",
        )
    if foreign := next((p for p in sorted(folder.rglob("*")) if p.suffix in _UNNAMED), None):
        raise OutputConflictError(
            f"The folder {folder} holds {foreign.relative_to(folder)}, and nothing says of what "
            "kind it is",
            "Name another folder with --out, or remove it",
        )
    make_folder(folder)
    write_run_json(note, asked)


def _made_with(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """What features and predictions of the same kind may still differ in."""
    made = dict(configuration.get("model") or {})
    for names, section in ((_NUMERICS, "numerics"), (_OPTIONS, "options")):
        known = configuration.get(section) or {}
        made |= {name: known[name] for name in names if known.get(name) is not None}
    return made
