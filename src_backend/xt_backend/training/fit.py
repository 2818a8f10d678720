"""Fitting the context encoder and the heads to labelled fields."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from xt_backend.errors import EngineError
from xt_backend.model import XT

from .augment import View, blank_tokens, join, shift, turn
from .batch import TOKENS_AT_ONCE, Batch, count_tokens, decode, packed
from .losses import class_weights, soft_cross_entropy
from .metrics import f1_scores
from .spec import TrainSpec

__all__ = ["Fitter", "LabelledField", "LossNotFiniteError", "predict_fields"]

WARM_UP = 0.05
"""Share of all steps in which the learning rate rises."""

CLIP_NORM = 1.0

SMALL_FIELD = 500_000
"""Tokens times width of the longest field, below which one thread is fastest."""

JOIN_SHARE = 0.5
"""How often a slide is laid beside the one before it."""


class LossNotFiniteError(EngineError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True)
class LabelledField:
    """One slide to learn from or to be judged by.

    Attributes:
        name: The slide's file name.
        view: Its tokens, places and soft labels; weight 0 where a region is not annotated enough.
        true: (N,) labels of all regions; only those with a weight count.
    """

    name: str
    view: View
    true: npt.NDArray[np.int64]


@dataclass
class Fitter:
    """Trains a model step by step and remembers the best epoch.

    Attributes:
        model: Whitening fitted; changed in place.
        train: Fields to learn from.
        val: Fields that choose the best epoch.
        spec: The recipe.
        pitch_um: Step of the lattice.
        history: One row an epoch.
        best_epoch: Epoch with the smallest validation loss, from 1; 0 before the first.
    """

    model: XT
    train: Sequence[LabelledField]
    val: Sequence[LabelledField]
    spec: TrainSpec
    pitch_um: float
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    _best: dict[str, Tensor] = field(default_factory=dict)
    _best_loss: float = math.inf

    def run(self, on_epoch: Callable[[dict[str, float]], None]) -> None:
        """Train until the epochs or the patience run out, then put the best epoch's weights back.

        Args:
            on_epoch: Told every epoch's row of `history`.

        Raises:
            LossNotFiniteError: The loss became NaN or infinite.
        """
        spec, model = self.spec, self.model
        rng = np.random.default_rng(spec.seed)
        decayed: list[nn.Parameter] = []
        kept: list[nn.Parameter] = []
        for name, parameter in model.named_parameters():
            if not name.startswith("region_encoder."):
                (decayed if parameter.ndim >= 2 else kept).append(parameter)
        groups: list[dict[str, Any]] = [
            {"params": decayed, "weight_decay": spec.weight_decay},
            {"params": kept, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=spec.lr)
        steps = spec.epochs * math.ceil(len(self.train) / spec.slides_per_step)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
        with self._few_threads():
            self._run(optimizer, schedule, rng, on_epoch)
        self.restore_best()

    def _run(
        self,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        rng: np.random.Generator,
        on_epoch: Callable[[dict[str, float]], None],
    ) -> None:
        spec, model = self.spec, self.model
        by_class = self._class_weights()
        for epoch in range(1, spec.epochs + 1):
            row = self._epoch(optimizer, schedule, by_class, rng, epoch)
            row |= self._validate(by_class)
            self.history.append(row)
            on_epoch(row)
            if row["val_loss"] < self._best_loss:
                self._best_loss, self.best_epoch = row["val_loss"], epoch
                self._best = {
                    name: value.detach().cpu().clone()
                    for name, value in model.state_dict().items()
                    if not name.startswith("region_encoder.")
                }
            elif epoch - self.best_epoch >= spec.patience:
                break

    def restore_best(self) -> None:
        """Put the weights of the best epoch back; none before the first."""
        if self._best:
            self.model.load_state_dict(copy.copy(self._best), strict=False)
        self.model.eval()

    @contextmanager
    def _few_threads(self) -> Iterator[None]:
        """Compute small fields with one thread: more of them only wait for each other."""
        values = max(count_tokens([one.view]) for one in self.train) * self.spec.dim
        before = torch.get_num_threads()
        if values < SMALL_FIELD:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def _class_weights(self) -> Tensor:
        soft = torch.from_numpy(np.concatenate([one.view.soft for one in self.train]))
        weights = torch.from_numpy(np.concatenate([one.view.weights for one in self.train]))
        return class_weights(soft, weights, self.spec.class_balance).to(self.model.device)

    def _epoch(
        self,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        by_class: Tensor,
        rng: np.random.Generator,
        epoch: int,
    ) -> dict[str, float]:
        spec, model = self.spec, self.model
        model.train()
        model.region_encoder.eval()
        order = rng.permutation(len(self.train))
        n_classes = len(by_class)
        confusion = np.zeros((n_classes, n_classes + 1))
        losses = []
        for first in range(0, len(order), spec.slides_per_step):
            fields = [self.train[index] for index in order[first : first + spec.slides_per_step]]
            batches = self._batches(fields, rng)
            total = sum(float(batch.weights.sum()) for batch in batches)
            if total == 0:
                continue
            optimizer.zero_grad(set_to_none=True)
            loss = 0.0
            for batch in batches:
                logits, alone = decode(model, batch)
                part = soft_cross_entropy(
                    logits, batch.soft, batch.weights, by_class, spec.label_smoothing
                ) + spec.region_only_weight * soft_cross_entropy(
                    alone, batch.soft, batch.weights, by_class, spec.label_smoothing
                )
                part = part * (batch.weights.sum() / total)
                part.backward()  # type: ignore[no-untyped-call]
                loss += part.item()
                confusion += batch.confusion(logits)
            norm = nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
            if not math.isfinite(loss) or not math.isfinite(norm.item()):
                raise LossNotFiniteError(
                    f"The loss became {loss} in epoch {epoch}",
                    "Use a smaller learning rate, and check the slides for odd regions",
                )
            optimizer.step()
            schedule.step()
            losses.append(loss)
        return {
            "epoch": epoch,
            "lr": float(schedule.get_last_lr()[0]),
            "loss": float(np.mean(losses)) if losses else 0.0,
            "train_f1": _macro(confusion),
        }

    def _batches(self, fields: Sequence[LabelledField], rng: np.random.Generator) -> list[Batch]:
        """Draw a view of every slide, lay some side by side, and put them on the device."""
        spec = self.spec
        glasses: list[list[View]] = []
        for one in fields:
            view = blank_tokens(one.view, spec.token_dropout, spec.token_noise, rng)
            view = turn(view, int(rng.integers(8)))
            beside = bool(glasses) and rng.random() < JOIN_SHARE
            if beside and count_tokens([*glasses[-1], view]) <= TOKENS_AT_ONCE:
                glasses[-1].append(view)
            else:
                glasses.append([view])
        views = [shift(join(glass, self.pitch_um, rng), rng) for glass in glasses]
        return [Batch.of(part, self.model.device) for part in packed(views)]

    def _validate(self, by_class: Tensor) -> dict[str, float]:
        self.model.eval()
        n_classes = len(by_class)
        both, alone = np.zeros((2, n_classes, n_classes + 1))
        loss, total = 0.0, 0.0
        with torch.inference_mode():
            for part in packed([one.view for one in self.val]):
                batch = Batch.of(part, self.model.device)
                logits, region_only = decode(self.model, batch)
                weight = float(batch.weights.sum())
                loss += weight * float(
                    soft_cross_entropy(logits, batch.soft, batch.weights, by_class)
                )
                total += weight
                both += batch.confusion(logits)
                alone += batch.confusion(region_only)
        return {
            "val_loss": loss / total if total else math.inf,
            "val_f1": _macro(both),
            "val_f1_region_only": _macro(alone),
        }


def predict_fields(
    model: XT, fields: Sequence[LabelledField]
) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """Logits (N, C) with context and of the region-only head, for every field on its own."""
    model.eval()
    found = []
    with torch.inference_mode():
        for one in fields:
            logits, alone = decode(model, Batch.of([one.view], model.device))
            found.append((logits.float().cpu().numpy(), alone.float().cpu().numpy()))
    return found


def _rate(step: int, steps: int) -> float:
    """Learning rate over its largest: a linear rise, then half a cosine down to 0."""
    warm = max(1, round(steps * WARM_UP))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))


def _macro(confusion: npt.NDArray[np.float64]) -> float:
    """Mean F1 over the classes that occur or are predicted; 0 without any."""
    scores = f1_scores(confusion)
    scores = scores[np.isfinite(scores)]
    return float(scores.mean()) if len(scores) else 0.0
