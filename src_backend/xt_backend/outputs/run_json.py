"""``run.json`` (what was run, for everyone) and ``local.json`` (where, for this machine only)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xt_backend.errors import StoreCorruptError, StoreError
from xt_backend.publishing import publish_bytes
from xt_backend.store.plain import plain_json

__all__ = ["is_pseudonymised", "read_json", "write_local_json", "write_run_json"]


def write_run_json(path: Path, content: Mapping[str, Any]) -> None:
    """Publish run.json. Of every absolute path only the last name is written.

    Args:
        path: Where it should go.
        content: Configuration, versions, device, numerics, weights.

    Raises:
        UsageError: It holds what JSON cannot.
        OutputError: It cannot be written.
    """
    publish_bytes(path, _json_bytes(plain_json(content, key="run")))


def write_local_json(path: Path, content: Mapping[str, Any]) -> None:
    """Publish local.json, readable by its owner only (mode 0600). It is never exported.

    Args:
        path: Where it should go.
        content: Paths and folders needed to repeat the run on this machine.

    Raises:
        UsageError: It holds what JSON cannot.
        OutputError: It cannot be written.
    """
    publish_bytes(
        path, _json_bytes(plain_json(content, keep_folders=True, key="local")), private=True
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read run.json or local.json.

    Raises:
        StoreCorruptError: It is no JSON object.
        StoreError: It cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StoreError(
            f"{path.name} cannot be read ({error.strerror})", "Check the path and its permissions"
        ) from error
    except (ValueError, RecursionError) as error:
        raise StoreCorruptError(f"{path.name} is no JSON ({error})", "Run again") from error
    if not isinstance(content, dict):
        raise StoreCorruptError(f"{path.name} is no JSON object", "Run again")
    return content


def is_pseudonymised(run: Mapping[str, Any]) -> bool:
    """Whether the ids of a run tell no file name (``--pseudonymise``).

    Args:
        run: Content of its run.json.
    """
    configuration = run.get("configuration", {})
    places = (run, configuration, configuration.get("options", {}))
    return any(place.get("pseudonymise") for place in places)


def _json_bytes(content: Any) -> bytes:
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()
