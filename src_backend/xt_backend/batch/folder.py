"""The run directory: whose it is, what is finished in it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from xt_backend.errors import OutputConflictError, OutputError, StoreError
from xt_backend.keys import RunFile
from xt_backend.outputs import write_local_json, write_run_json
from xt_backend.store import ScoreMap, sweep_partials

from .configuration import differences, digest
from .dense import dense_files

__all__ = ["RunFolder"]


class RunFolder:
    """A folder that holds one configuration's run.

    Args:
        path: The folder; made when it is not there.
        configuration: What the results in it depend on.

    Raises:
        OutputConflictError: It holds another configuration's run or foreign files.
        OutputError: It cannot be written.
    """

    def __init__(self, path: Path, configuration: dict[str, Any]) -> None:
        self.path = path
        self.configuration = configuration
        self.digest = digest(configuration)
        self._check()
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"The output folder {path} cannot be made: {error.strerror or error}",
                "Choose another --out",
            ) from error
        sweep_partials(path, time.time())

    def _check(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise OutputConflictError(f"{self.path} is a file", "Name a folder with --out")
        if not self.path.is_dir():
            return
        run_json = self.path / RunFile.RUN_JSON
        if not run_json.is_file():
            foreign = sorted(
                item.name for item in self.path.iterdir() if not item.name.endswith(RunFile.PARTIAL)
            )
            if foreign:
                raise OutputConflictError(
                    f"The folder {self.path} holds files that are no run: {foreign[0]}",
                    "Choose an empty or new folder",
                )
            return
        try:
            found = json.loads(run_json.read_text(encoding="utf-8"))["configuration"]
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise OutputConflictError(
                f"{RunFile.RUN_JSON} in {self.path} is damaged", "Choose another folder"
            ) from error
        different = differences(found, self.configuration)
        if different:
            raise OutputConflictError(
                f"The folder {self.path} holds a run with another configuration: {different[0]}",
                "Choose another folder, or the same configuration to resume",
            )

    def file(self, slide_id: str, suffix: str) -> Path:
        """Path of one slide's file, e.g. ``<id>.run.h5``."""
        return self.path / f"{slide_id}{suffix}"

    def finished(self, slide_id: str, identity: str) -> ScoreMap | None:
        """The score map of a slide that is done under this configuration, else None.

        Known by content: the file must be whole, of this configuration and of this slide, and
        the mask or points of its model must be there.
        """
        path = self.file(slide_id, RunFile.SCORE_MAP)
        if not path.is_file():
            return None
        try:
            found = ScoreMap.load(path)
        except StoreError:
            return None
        same = (
            found.run_meta.get("configuration") == self.digest
            and found.run_meta.get("slide_identity") == identity
        )
        complete = not found.partial and all(
            self.file(slide_id, suffix).is_file() for suffix in dense_files(found.task)
        )
        return found if same and complete else None

    def write_run(self, details: dict[str, Any]) -> None:
        """Publish run.json: the configuration and `details`. No path may be in it."""
        write_run_json(
            self.path / RunFile.RUN_JSON, {"configuration": self.configuration, **details}
        )

    def write_local(self, details: dict[str, Any]) -> None:
        """Publish local.json (mode 0600): what this machine needs to repeat the run."""
        write_local_json(self.path / RunFile.LOCAL_JSON, details)
