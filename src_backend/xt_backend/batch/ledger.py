"""The ledger of a run: a file for what became of each slide, and one for the plan.

Whoever works on a slide publishes its outcome by itself, so that the tables of the run can be made
from these files alone, whatever ended the batch and however many processes worked on it. The entry
of a result is there before the file that says that the slide is done, and counts only with it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from xt_backend.errors import StoreCorruptError, StoreError
from xt_backend.keys import RunFile, SlideStatus
from xt_backend.outputs import SlideRow, read_json
from xt_backend.publishing import make_folder, publish_bytes
from xt_backend.store import plain_json

from .outcome import Outcome

__all__ = ["Entry", "Ledger", "Plan"]

_log = logging.getLogger(__name__)

_SCHEMA = 1
_ROW = {item.name for item in fields(SlideRow)}


@dataclass(frozen=True)
class Entry:
    """What the ledger knows of a slide.

    Attributes:
        outcome: Without maps and points.
        call: The call that made it.
    """

    outcome: Outcome
    call: str


@dataclass(frozen=True)
class Plan:
    """What is known of a batch before its first slide; no path is in it.

    Attributes:
        call: Names this call of the command.
        configuration: What the results depend on.
        classes: The model's classes.
        kinds: Kinds of points of a detection model.
        facts: What run.json says of the batch, from the start.
        result: Place below the run directory of the file that says that a slide is done, with
            ``*`` for its id.
        slides: Row, file name and id of each slide, in the order of the inputs.
    """

    call: str
    configuration: Mapping[str, Any]
    classes: tuple[str, ...]
    kinds: tuple[str, ...]
    facts: Mapping[str, Any]
    result: str
    slides: tuple[tuple[int, str, str], ...]


class Ledger:
    """The folder ``ledger`` of a run directory.

    Args:
        path: The folder; it is made when something is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def file(self, slide_id: str) -> Path:
        """Where the outcome of a slide is."""
        return self.path / f"{slide_id}{RunFile.OUTCOME}"

    def write(self, outcome: Outcome, call: str) -> None:
        """Publish what became of a slide.

        Args:
            outcome: Of the slide.
            call: The call that made it.

        Raises:
            OutputError: It cannot be written.
        """
        about = {
            "problems": outcome.problems,
            "reader": outcome.reader,
            "encoder": outcome.encoder,
            "seconds": outcome.seconds,
            "screening": outcome.screening,
        }
        content = {
            "schema": _SCHEMA,
            "call": call,
            "configuration": outcome.configuration,
            # As in slides.csv, where its text stands as it is.
            "row": plain_json(asdict(outcome.row), keep_folders=True),
            "seen_nan": outcome.seen_nan,
            **plain_json(about),
        }
        if outcome.files:
            content |= {"identity": outcome.identity, "files": dict(outcome.files)}
        self._publish(self.file(outcome.row.id), content)

    def read(self, slide_id: str) -> Entry | None:
        """What became of a slide; None where nothing is known, or nothing that can be read."""
        path = self.file(slide_id)
        if not path.is_file():
            return None
        try:
            return _entry(self._content(path))
        except StoreError as error:
            # The slide's own files say whether it is done.
            _log.warning("%s", error)
            return None

    def write_plan(self, plan: Plan) -> None:
        """Publish the plan.

        Raises:
            OutputError: It cannot be written.
        """
        content = {
            "schema": _SCHEMA,
            **asdict(plan),
            "configuration": plain_json(plan.configuration),
            "facts": plain_json(plan.facts),
        }
        self._publish(self.path / RunFile.PLAN, content)

    @property
    def has_plan(self) -> bool:
        """A call of the command has come so far."""
        return (self.path / RunFile.PLAN).is_file()

    def read_plan(self) -> Plan:
        """The plan of the last call.

        Raises:
            StoreError: There is none, or it is damaged.
        """
        path = self.path / RunFile.PLAN
        content = self._content(path)
        try:
            slides = tuple((int(row), str(name), str(i)) for row, name, i in content["slides"])
            return Plan(
                call=content["call"],
                configuration=dict(content["configuration"]),
                classes=tuple(content["classes"]),
                kinds=tuple(content["kinds"]),
                facts=dict(content["facts"]),
                result=str(content["result"]),
                slides=slides,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise _corrupt(path, error) from error

    def _publish(self, path: Path, content: Any) -> None:
        make_folder(self.path)
        publish_bytes(path, (json.dumps(content, allow_nan=False) + "\n").encode())

    def _content(self, path: Path) -> dict[str, Any]:
        content = read_json(path)
        if content.get("schema") != _SCHEMA:
            raise _corrupt(path, f"schema {content.get('schema')!r}")
        return content


def _entry(content: Mapping[str, Any]) -> Entry:
    try:
        row = {name: value for name, value in content["row"].items() if name in _ROW}
        for numbers in ("probabilities", "fractions"):
            row[numbers] = {k: v for k, v in row[numbers].items() if v is not None}
        row["status"] = SlideStatus(row["status"])
        outcome = Outcome(
            row=SlideRow(**row),
            seen_nan=bool(content["seen_nan"]),
            problems=tuple(content["problems"]),
            reader=str(content["reader"]),
            encoder=dict(content["encoder"]),
            seconds=dict(content["seconds"]),
            screening=dict(content["screening"]),
            configuration=str(content["configuration"]),
            # Of features only, and older entries have neither.
            identity=str(content.get("identity", "")),
            files=dict(content.get("files", {})),
        )
        return Entry(outcome, str(content["call"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreCorruptError(
            f"An entry of the ledger is damaged ({error!r})", "Run again"
        ) from error


def _corrupt(path: Path, why: object) -> StoreCorruptError:
    return StoreCorruptError(
        f"{path.name} is no ledger of napari-xt ({why})", "Score the slides again to make it anew"
    )
