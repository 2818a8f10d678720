"""The run directory: whose it is, what is finished in it."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from xt_backend.config import CommonOptions
from xt_backend.errors import OutputConflictError, OutputError, StoreError
from xt_backend.keys import RunFile, RunH5
from xt_backend.outputs import SlideRow, read_slides_csv, write_local_json, write_run_json
from xt_backend.store import ScoreMap, differences, make_folder, sweep_partials

from .configuration import digest, plain_options, without_limits
from .dense import dense_files

__all__ = ["RunFolder"]

_log = logging.getLogger(__name__)


class RunFolder:
    """A folder that holds one configuration's run.

    Args:
        path: The folder; made when it is not there.
        configuration: What the results in it depend on.
        slide_ids: Of all slides that the run is to hold.
        result: Suffix of the file that says that a slide is done.
        make: False only looks, and makes and sweeps nothing.

    Attributes:
        previous: What run.json said before; empty for a new folder.

    Raises:
        OutputConflictError: It holds another configuration's run, results of slides that are not
            among these, or foreign files.
        OutputError: It cannot be written.
    """

    def __init__(
        self,
        path: Path,
        configuration: dict[str, Any],
        slide_ids: Collection[str],
        *,
        result: str = RunFile.SCORE_MAP,
        make: bool = True,
    ) -> None:
        self.path = path
        self.configuration = configuration
        self.previous: dict[str, Any] = {}
        self._result = result
        self._check(set(slide_ids))
        if not make:
            return
        make_folder(path)
        sweep_partials(path, time.time())

    def _check(self, slide_ids: set[str]) -> None:
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
            self.previous = json.loads(run_json.read_text(encoding="utf-8"))
            found = without_limits(self.previous["configuration"])
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise OutputConflictError(
                f"{RunFile.RUN_JSON} in {self.path} is damaged", "Choose another folder"
            ) from error
        different = differences(found, self.configuration)
        if different:
            key, there, here = different[0]
            raise OutputConflictError(
                f"The folder {self.path} holds a run with another configuration: {key} is "
                f"{there!r} there, and {here!r} was asked for",
                "Choose another folder, or the same configuration to resume",
            )
        # A table with one row per input has no place for them, and without a row they mislead.
        result = self._result
        done = {path.name.removesuffix(result) for path in self.path.glob(f"*{result}")}
        if others := sorted(done - slide_ids):
            raise OutputConflictError(
                f"The folder {self.path} holds the result of {others[0]}, which is not among the "
                "inputs now",
                "Name all slides of the run, new ones too, or choose another folder",
            )

    def file(self, slide_id: str, suffix: str) -> Path:
        """Path of one slide's file, e.g. ``<id>.run.h5``."""
        return self.path / f"{slide_id}{suffix}"

    def holds(self, slide_id: str) -> bool:
        """The file that says that a slide is done is there."""
        return self.file(slide_id, self._result).is_file()

    def rows(self) -> list[SlideRow]:
        """The rows of slides.csv as an earlier call left it; none where it is not readable."""
        path = self.path / RunFile.SLIDES_CSV
        if not path.is_file():
            return []
        try:
            return read_slides_csv(path)[0]
        except StoreError as error:
            # It is made anew, from the files of the slides.
            _log.warning("%s", error)
            return []

    def digest(self, options: CommonOptions) -> str:
        """Digest of the configuration with the options of one slide.

        Raises:
            UsageError: A file among the options cannot be read.
        """
        return digest({**self.configuration, "options": plain_options(options)})

    def finished(self, slide_id: str, configuration: str, identity: str) -> ScoreMap | None:
        """The score map of a slide that is done, else None.

        Known by content: the file must be whole, of this configuration and of this slide, it must
        know the tissue, and the mask or points of its model must be there.

        Args:
            slide_id: Stem of its files.
            configuration: `digest` of the slide's options.
            identity: Of the slide.
        """
        path = self.file(slide_id, RunFile.SCORE_MAP)
        if not path.is_file():
            return None
        try:
            found = ScoreMap.load(path)
        except StoreError:
            return None
        same = (
            found.run_meta.get("configuration") == configuration
            and found.run_meta.get(RunH5.META_SLIDE_IDENTITY) == identity
        )
        # Maps of older versions lack the tissue, which the shares in slides.csv are of.
        complete = not found.partial and found.tissue is not None
        complete &= all(self.file(slide_id, suffix).is_file() for suffix in dense_files(found.task))
        return found if same and complete else None

    def remove(self, slide_id: str) -> None:
        """Remove what an earlier run wrote of a slide, if anything.

        Raises:
            OutputError: It cannot be removed.
        """
        try:
            for suffix in RunFile.of_slide():
                self.file(slide_id, suffix).unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(
                f"The old results of {slide_id} cannot be removed: {error.strerror or error}",
                "Check the permissions of the output folder",
            ) from error

    def write_run(self, details: dict[str, Any]) -> None:
        """Publish run.json: the configuration and `details`. No path may be in it."""
        write_run_json(
            self.path / RunFile.RUN_JSON, {"configuration": self.configuration, **details}
        )

    def write_local(self, details: dict[str, Any]) -> None:
        """Publish local.json (mode 0600): what this machine needs to repeat the run."""
        write_local_json(self.path / RunFile.LOCAL_JSON, details)
