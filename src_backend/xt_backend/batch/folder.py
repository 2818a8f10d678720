"""The run directory: whose it is, what is finished in it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import uuid4

from xt_backend.config import CommonOptions
from xt_backend.errors import OutputConflictError, OutputError, StoreError
from xt_backend.keys import RunFile, RunH5
from xt_backend.model import file_sha256
from xt_backend.outputs import write_local_json, write_run_json
from xt_backend.store import ScoreMap, differences, make_folder, sweep_partials

from .configuration import digest, plain_options, without_limits
from .dense import dense_files
from .ledger import Ledger, Plan
from .outcome import Outcome
from .plan import Task

__all__ = ["RunFolder"]

_REMAKE = "Make it anew with napari-xt summarise, or choose another folder"


def _score_map(slide_id: str) -> tuple[str, ...]:
    return (f"{slide_id}{RunFile.SCORE_MAP}",)


class RunFolder:
    """A folder that holds one configuration's run.

    Plain data until it is claimed: it may be pickled for whoever works on the run's slides.

    Args:
        path: The folder.
        configuration: What the results in it depend on.
        result: Places below the folder of a slide's results by its id; the last is the file that
            says that the slide is done.

    Attributes:
        call: Names this call of the command in the ledger.
        ledger: What became of each slide.
    """

    def __init__(
        self,
        path: Path,
        configuration: dict[str, Any],
        *,
        result: Callable[[str], Sequence[str]] = _score_map,
    ) -> None:
        self.path = path
        self.configuration = configuration
        self.call = uuid4().hex
        self.ledger = Ledger(path / RunFile.LEDGER)
        self._result = result

    def claim(self, slide_ids: Collection[str], *, make: bool = True) -> dict[str, Any]:
        """Make the folder, or see that what it holds is this run's.

        Args:
            slide_ids: Of all slides that the run is to hold.
            make: False only looks, and makes and sweeps nothing.

        Returns:
            What run.json said before; empty for a new folder.

        Raises:
            OutputConflictError: It holds another configuration's run, results of slides that are
                not among these, or foreign files.
            OutputError: It cannot be written.
        """
        previous = self._check(set(slide_ids))
        if make:
            make_folder(self.path)
            places = {(self.path / name).parent for name in self._result("*")}
            for folder in {self.path, self.ledger.path, *places}:
                sweep_partials(folder, time.time())
        return previous

    def _check(self, slide_ids: set[str]) -> dict[str, Any]:
        if self.path.exists() and not self.path.is_dir():
            raise OutputConflictError(f"{self.path} is a file", "Name a folder with --out")
        if not self.path.is_dir():
            return {}
        run_json = self.path / RunFile.RUN_JSON
        if not run_json.is_file():
            # A call that was killed at its very start left local.json and no run.json.
            foreign = sorted(
                item.name
                for item in self.path.iterdir()
                if not item.name.endswith(RunFile.PARTIAL) and item.name != RunFile.LOCAL_JSON
            )
            if foreign and self.ledger.has_plan:
                raise OutputConflictError(f"{RunFile.RUN_JSON} is not in {self.path}", _REMAKE)
            if foreign:
                raise OutputConflictError(
                    f"The folder {self.path} holds files that are no run: {foreign[0]}",
                    "Choose an empty or new folder",
                )
            return {}
        try:
            previous: dict[str, Any] = json.loads(run_json.read_text(encoding="utf-8"))
            found = without_limits(previous["configuration"])
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise OutputConflictError(
                f"{RunFile.RUN_JSON} in {self.path} is damaged",
                _REMAKE if self.ledger.has_plan else "Choose another folder",
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
        pattern = PurePosixPath(self._result("*")[-1])
        suffix = pattern.name[1:]
        done = {path.name.removesuffix(suffix) for path in self.path.glob(str(pattern))}
        if others := sorted(done - slide_ids):
            raise OutputConflictError(
                f"The folder {self.path} holds the result of {others[0]}, which is not among the "
                "inputs now",
                "Name all slides of the run, new ones too, or choose another folder",
            )
        return previous

    def file(self, slide_id: str, suffix: str) -> Path:
        """Path of one slide's file, e.g. ``<id>.run.h5``."""
        return self.path / f"{slide_id}{suffix}"

    def holds(self, slide_id: str) -> bool:
        """The file that says that a slide is done is there."""
        return (self.path / self._result(slide_id)[-1]).is_file()

    def known(self, task: Task) -> Outcome | None:
        """What the ledger says of a slide, if that still holds; None where it is to be done.

        A result counts while its file is there; a failure only if this call tried. The slide
        itself is not looked at.
        """
        entry = self.ledger.read(task.slide_id)
        if entry is None:
            return None
        outcome, now = entry.outcome, entry.call == self.call
        if outcome.failed:
            return outcome if now else None
        if not self.holds(task.slide_id):
            return None
        return outcome if now else outcome.earlier(task.source.row, task.name)

    def reopen(self, slide_id: str) -> None:
        """Let a slide count as not done: its result is about to be replaced.

        Raises:
            OutputError: What says so cannot be removed.
        """
        try:
            (self.path / self._result(slide_id)[-1]).unlink(missing_ok=True)
        except OSError as error:
            raise _stays(slide_id, error) from error

    def note(self, outcome: Outcome) -> None:
        """Publish what became of a slide, unless the ledger has it from an earlier call.

        Raises:
            OutputError: It cannot be written.
        """
        if not (outcome.kept and self.ledger.file(outcome.row.id).is_file()):
            self.ledger.write(outcome, self.call)

    def note_files(self, slide_id: str, files: Mapping[str, str]) -> None:
        """Add files to what the ledger has of a slide, which else stays what it was.

        Args:
            slide_id: Stem of its files.
            files: sha256 by name.

        Raises:
            OutputError: It cannot be written.
        """
        if (entry := self.ledger.read(slide_id)) is not None:
            whole = {**entry.outcome.files, **files}
            self.ledger.write(replace(entry.outcome, files=whole), entry.call)

    def write_plan(
        self,
        tasks: Sequence[Task],
        classes: Sequence[str],
        kinds: Sequence[str],
        facts: Mapping[str, Any],
    ) -> None:
        """Publish what is known of the batch before its first slide; see `Plan`.

        Args:
            tasks: In the order of the inputs.
            classes: The model's classes.
            kinds: Kinds of points of a detection model.
            facts: What run.json says of the batch, from the start.
        """
        plan = Plan(
            call=self.call,
            configuration=self.configuration,
            classes=tuple(classes),
            kinds=tuple(kinds),
            facts=facts,
            result=self._result("*")[-1],
            slides=tuple((task.source.row, task.name, task.slide_id) for task in tasks),
        )
        self.ledger.write_plan(plan)

    def digest(self, options: CommonOptions) -> str:
        """Digest of the configuration with the options of one slide.

        Raises:
            UsageError: A file among the options cannot be read.
        """
        return digest({**self.configuration, "options": plain_options(options)})

    def finished(self, slide_id: str, configuration: str, identity: str) -> ScoreMap | None:
        """The score map of a slide that is done, else None.

        Known by content: the file must be whole, of this configuration and of this slide, it must
        know the tissue, and all other files of the slide must be there.

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
        beside = (*RunFile.of_every_result(), *dense_files(found.task))
        complete &= all(self.file(slide_id, suffix).is_file() for suffix in beside)
        return found if same and complete else None

    def digests(self, slide_id: str, suffixes: Iterable[str]) -> dict[str, str]:
        """sha256 of files of a slide, by name.

        Raises:
            OutputError: One cannot be read back.
        """
        try:
            return {
                path.name: file_sha256(path)
                for path in (self.file(slide_id, suffix) for suffix in suffixes)
            }
        except OSError as error:
            raise OutputError(
                f"What was just written of {slide_id} cannot be read: {error.strerror or error}",
                "Check the permissions of the output folder",
            ) from error

    def is_whole(self, files: Mapping[str, str]) -> bool:
        """Whether files are as they were written.

        Args:
            files: sha256 by place below the run directory.
        """
        try:
            return all(file_sha256(self.path / name) == digest for name, digest in files.items())
        except OSError:
            return False

    def remove(self, slide_id: str) -> None:
        """Remove what an earlier run wrote of a slide, if anything.

        Raises:
            OutputError: It cannot be removed.
        """
        try:
            # First those that say that the slide is done.
            names = [*self._result(slide_id)[::-1], *(slide_id + s for s in RunFile.of_slide())]
            for name in names:
                (self.path / name).unlink(missing_ok=True)
        except OSError as error:
            raise _stays(slide_id, error) from error

    def write_run(self, details: dict[str, Any]) -> None:
        """Publish run.json: the configuration and `details`. No path may be in it."""
        write_run_json(
            self.path / RunFile.RUN_JSON, {"configuration": self.configuration, **details}
        )

    def write_local(self, details: dict[str, Any]) -> None:
        """Publish local.json (mode 0600): what this machine needs to repeat the run."""
        write_local_json(self.path / RunFile.LOCAL_JSON, details)


def _stays(slide_id: str, error: OSError) -> OutputError:
    return OutputError(
        f"The old results of {slide_id} cannot be removed: {error.strerror or error}",
        "Check the permissions of the output folder",
    )
