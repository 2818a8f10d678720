"""What a training tells while it goes on, as lines of JSON beside its model."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xt_backend.store import publish_bytes

__all__ = ["TrainLog"]


class TrainLog:
    """Rows of a training; `M.train.jsonl` of an earlier one stays until this one has its model.

    Args:
        out: The model file.
        writes: False takes rows and keeps none: of several processes one writes.
    """

    def __init__(self, out: Path, *, writes: bool = True) -> None:
        self._running = out.with_suffix(".running.jsonl")
        self._done = out.with_suffix(".train.jsonl")
        self._writes = writes
        self._lines: list[str] = []

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a row to `M.running.jsonl`, which is begun anew with the second one.

        The first says what is trained; what is refused before there is more to say leaves no file.

        Raises:
            OutputError: It cannot be written.
        """
        if self._writes:
            self._lines.append(json.dumps(row) + "\n")
            if len(self._lines) > 1:
                publish_bytes(self._running, self._text(), durable=False)

    def finish(self) -> None:
        """Let the rows be those of the model, which is written now.

        Raises:
            OutputError: They cannot be written.
        """
        if self._writes:
            publish_bytes(self._done, self._text())
            with contextlib.suppress(OSError):
                self._running.unlink(missing_ok=True)

    def _text(self) -> bytes:
        return "".join(self._lines).encode()
