"""Fitting a model step by step, whatever it learns from."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xt_backend.errors import LossNotFiniteError
from xt_backend.model import XT

from .checkpoint import Checkpoint, Position
from .learner import Learner
from .metrics import macro_f1
from .processes import Processes
from .spec import TrainSpec
from .splits import draw_order

__all__ = ["CLIP_NORM", "Fitter", "learning_rate_share", "one_thread"]

CLIP_NORM = 1.0

CHECKPOINT_S = 20.0
"""Time between two checkpoints within an epoch, and of states as large as a region encoder's."""

SMALLEST_SCALE = 1.0
"""fp16 gradients that overflow at this loss scale are no matter of precision."""


@dataclass
class Fitter:
    """Trains a model and remembers the best epoch; without validation slides, the last.

    The region encoder always computes as in inference: its batch norms keep their running
    statistics and nothing is dropped, so that a region gives the same tokens in any company.

    Attributes:
        learner: Holds the model and the examples.
        spec: The recipe.
        last_epoch: Where to end, of the `spec.epochs` that the learning rate is planned for.
        checkpoint: Where the state is kept now and then, and taken from at the start.
        processes: That share the work.
        patients: Whose each of the learner's slides is; every patient is then drawn equally often.
        position: How far training is.
    """

    learner: Learner
    spec: TrainSpec
    last_epoch: int | None = None
    checkpoint: Checkpoint | None = None
    processes: Processes = field(default_factory=Processes)
    patients: Sequence[str] = ()
    position: Position = field(default_factory=Position)
    _best: dict[str, Tensor] = field(default_factory=dict)
    _saved: float = 0.0

    @property
    def model(self) -> XT:
        """What is trained, changed in place."""
        return self.learner.model

    @property
    def history(self) -> list[dict[str, float]]:
        """One row an epoch."""
        return self.position.history

    @property
    def best_epoch(self) -> int:
        """Epoch with the smallest validation loss, from 1; 0 before the first."""
        return self.position.best_epoch

    def run(
        self,
        on_epoch: Callable[[dict[str, float]], None],
        on_resume: Callable[[Position], None] | None = None,
    ) -> None:
        """Train until the epochs or the patience run out, then put the best epoch's weights back.

        Args:
            on_epoch: Told every epoch's row of `history`, also of those done before a resumption.
            on_resume: Told first from where it goes on, if it does.

        Raises:
            LossNotFiniteError: The loss became NaN or infinite.
            UsageError: The checkpoint is of another training.
        """
        spec = self.spec
        self._rng = np.random.default_rng(spec.seed)
        self._optimizer = torch.optim.AdamW(self._groups(), lr=spec.lr)
        self._scaler = torch.amp.GradScaler("cuda", enabled=self.learner.scales_loss)
        self._n_steps = spec.epochs * math.ceil(self._n_views / spec.slides_per_step)
        self._saved = time.monotonic()
        self.processes.agree(self.model)
        if self._resume() and on_resume is not None:
            on_resume(self.position)
        for row in self.history:
            on_epoch(row)
        last = spec.epochs if self.last_epoch is None else self.last_epoch
        with one_thread(self.learner.is_small):
            while not self.position.finished:
                self._epoch(on_epoch)
                here = self.position
                stale = here.epoch - here.best_epoch >= spec.patience
                here.finished = here.epoch >= last or stale
                # A few megabytes without the region encoder's weights and moments.
                self._keep(always=here.finished or not self.learner.trains_encoder)
        self.restore_best()

    def restore_best(self) -> None:
        """Put the weights of the best epoch back; none before the first."""
        if self._best:
            self.model.load_state_dict(copy.copy(self._best), strict=False)
        self.model.eval()

    def _epoch(self, on_epoch: Callable[[dict[str, float]], None]) -> None:
        """Do an epoch, or the rest of the one under way, and judge it."""
        spec, here, learner = self.spec, self.position, self.learner
        if not here.order:
            n_classes = len(self.model.card.classes)
            here.epoch += 1
            here.order = draw_order(len(learner), self._n_views, self.patients, self._rng)
            here.first, here.losses = 0, []
            here.confusion = np.zeros((n_classes, n_classes + 1)).tolist()
        self.model.train()
        self.model.region_encoder.eval()
        while here.first < len(here.order):
            self._step(here.order[here.first : here.first + spec.slides_per_step])
            here.first += spec.slides_per_step
            if here.first < len(here.order):
                self._keep()
        row = {
            "epoch": here.epoch,
            "lr": spec.lr * self._rate(),
            "loss": float(np.mean(here.losses)) if here.losses else 0.0,
            "train_f1": macro_f1(np.array(here.confusion)),
            **learner.validate(),
        }
        loss = row.get("val_loss")
        if loss is not None and math.isnan(loss):
            # After the last step, which no other one would tell of.
            raise _not_finite("validation loss", loss, f"epoch {here.epoch}")
        here.order = []
        here.history.append(row)
        on_epoch(row)
        if loss is not None and not math.isfinite(loss):
            loss = math.inf
        if loss is None or here.best_loss is None or loss < here.best_loss:
            here.best_loss, here.best_epoch = loss, here.epoch
            self._best = {
                name: value.detach().cpu().clone() for name, value in self._trained().items()
            }

    def _step(self, slides: list[int]) -> None:
        here = self.position
        self._optimizer.zero_grad(set_to_none=True)
        outcome = self.learner.step(slides, here.epoch, self._rng, self._backward)
        if outcome is None:
            return
        self.processes.add_gradients(
            one for group in self._optimizer.param_groups for one in group["params"]
        )
        self._scaler.unscale_(self._optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM).item()
        overflow = self._scaler.is_enabled() and self._scaler.get_scale() > SMALLEST_SCALE
        if not math.isfinite(outcome.loss) or not (math.isfinite(norm) or overflow):
            what = "loss" if not math.isfinite(outcome.loss) else "gradient"
            value = outcome.loss if what == "loss" else norm
            raise _not_finite(what, value, f"epoch {here.epoch}, step {here.step + 1}")
        rate = self._rate()
        for group in self._optimizer.param_groups:
            group["lr"] = group["largest_lr"] * rate
        self._scaler.step(self._optimizer)
        self._scaler.update()
        here.step += 1
        here.losses.append(outcome.loss)
        here.confusion = (np.array(here.confusion) + outcome.confusion).tolist()

    @property
    def _n_views(self) -> int:
        return self.spec.views_per_epoch or len(self.learner)

    def _rate(self) -> float:
        return learning_rate_share(self.position.step, self._n_steps, self.spec.warm_up)

    def _backward(self, loss: Tensor, *, retain_graph: bool = False) -> None:
        self._scaler.scale(loss).backward(  # type: ignore[no-untyped-call]
            retain_graph=retain_graph
        )

    def _groups(self) -> list[dict[str, Any]]:
        """Parameters by learning rate and by whether they decay: only matrices and kernels do."""
        spec = self.spec
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            in_encoder = name.startswith("region_encoder.")
            if not in_encoder or self.learner.trains_encoder:
                groups.setdefault((in_encoder, parameter.ndim >= 2), []).append(parameter)
        return [
            {
                "params": parameters,
                "weight_decay": spec.weight_decay if decays else 0.0,
                "largest_lr": spec.encoder_lr if in_encoder else spec.lr,
            }
            for (in_encoder, decays), parameters in sorted(groups.items(), key=lambda item: item[0])
        ]

    def _trained(self) -> dict[str, Tensor]:
        return {
            name: value
            for name, value in self.model.state_dict().items()
            if self.learner.trains_encoder or not name.startswith("region_encoder.")
        }

    def _keep(self, always: bool = False) -> None:
        """Save a checkpoint when one is due."""
        if self.checkpoint is None or not self.processes.is_main:
            return
        now = time.monotonic()
        if not always and now - self._saved < CHECKPOINT_S:
            return
        self._saved = now
        self.position.rng = self._rng.bit_generator.state  # type: ignore[assignment]
        self.position.scaler = self._scaler.state_dict()
        tensors = {f"model.{name}": value for name, value in self._trained().items()}
        tensors |= {f"best.{name}": value for name, value in self._best.items()}
        tensors["rng.cpu"] = torch.get_rng_state()
        if self.model.device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state(self.model.device)
        for index, state in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
        self.checkpoint.save(self.position, tensors)

    def _resume(self) -> bool:
        """Go on from the checkpoint; whether there is one."""
        found = self.checkpoint.load() if self.checkpoint is not None else None
        if found is None:
            return False
        self.position, tensors = found
        parts: dict[str, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            kind, _, rest = name.partition(".")
            parts.setdefault(kind, {})[rest] = value
        self.model.load_state_dict(parts["model"], strict=False)
        self._best = parts.get("best", {})
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in parts.get("optimizer", {}).items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = value
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": state, "param_groups": groups})
        self._scaler.load_state_dict(self.position.scaler)
        self._rng.bit_generator.state = self.position.rng
        torch.set_rng_state(parts["rng"]["cpu"])
        if "cuda" in parts["rng"] and self.model.device.type == "cuda":
            torch.cuda.set_rng_state(parts["rng"]["cuda"], self.model.device)
        return True


def _not_finite(what: str, value: float, where: str) -> LossNotFiniteError:
    return LossNotFiniteError(
        f"The {what} became {value} in {where}",
        "Use a smaller learning rate, and check the slides for odd regions",
    )


@contextmanager
def one_thread(wanted: bool = True) -> Iterator[None]:
    """Compute in a single thread: of what is small, several only wait for each other.

    Args:
        wanted: False changes nothing.
    """
    before = torch.get_num_threads()
    if wanted:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def learning_rate_share(step: int, steps: int, warm_up: float) -> float:
    """Learning rate over its largest: a linear rise, then half a cosine down to 0."""
    warm = max(1, round(steps * warm_up))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))
