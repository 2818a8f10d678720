"""The state of a training, kept so that a killed one can go on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from xt_backend.errors import StoreCorruptError, UsageError
from xt_backend.store import publish
from xt_backend.store.plain import differences, plain_json

__all__ = ["Checkpoint", "Position"]

_POSITION, _IDENTITY = "position", "identity"


@dataclass
class Position:
    """How far a training is: plain data.

    Attributes:
        epoch: Under way or done, from 1; 0 before the first.
        order: Training slides in the order of this epoch; empty between two epochs.
        first: Slides of `order` that are done.
        losses: Of this epoch's steps.
        confusion: Of this epoch's steps.
        step: Optimizer steps in all.
        history: One row an epoch.
        best_epoch: Epoch with the smallest validation loss; 0 before the first.
        best_loss: Its validation loss.
        finished: Nothing is left but to take the best epoch.
        rng: State of numpy's generator.
        scaler: State of the loss scaling; empty without.
    """

    epoch: int = 0
    order: list[int] = field(default_factory=list)
    first: int = 0
    losses: list[float] = field(default_factory=list)
    confusion: list[list[float]] = field(default_factory=list)
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_loss: float | None = None
    finished: bool = False
    rng: dict[str, Any] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """A safetensors file with the tensors and, as JSON in its header, the position.

    Attributes:
        path: Replaced atomically by every save.
        identity: What the training depends on, as plain data; another one cannot go on from here.
    """

    path: Path
    identity: Mapping[str, Any]

    def save(self, position: Position, tensors: Mapping[str, Tensor]) -> None:
        """Replace what was saved before.

        Raises:
            OutputError: The file cannot be written.
        """
        metadata = {
            _POSITION: json.dumps(asdict(position)),
            _IDENTITY: json.dumps(plain_json(dict(self.identity)), sort_keys=True),
        }
        on_cpu = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        with publish(self.path) as temp:
            save_file(on_cpu, temp, metadata)

    def load(self) -> tuple[Position, dict[str, Tensor]] | None:
        """What was saved last; None where nothing was.

        Raises:
            UsageError: It is of another training.
            StoreCorruptError: It is damaged.
        """
        if not self.path.exists():
            return None
        start_over = f"Start over with --no-resume, or remove {self.path.name}"
        try:
            with safe_open(self.path, "pt") as file:
                metadata = file.metadata() or {}
                identity = json.loads(metadata[_IDENTITY])
                position = Position(**json.loads(metadata[_POSITION]))
                wanted = plain_json(dict(self.identity))
                found = differences(json.loads(json.dumps(wanted)), identity)
                if found:
                    raise UsageError(
                        f"{self.path.name} was left by another training: {found[0]}", start_over
                    )
                names = list(file.keys())
                return position, {name: file.get_tensor(name) for name in names}
        except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise StoreCorruptError(f"{self.path.name} is damaged", start_over) from error

    def remove(self) -> None:
        """Forget it."""
        self.path.unlink(missing_ok=True)
