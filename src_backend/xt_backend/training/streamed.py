"""Learning from pixels: the region encoder is trained too, end to end."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xt_backend.engine import BatchEncoder, Device
from xt_backend.model import XT, FeatureStats

from .appearance import Appearance
from .augment import View, shift, turn
from .batch import Batch, decode
from .cached import Tally, stats_of
from .dataset import SlideField, load_field
from .evaluation import Judged, judge
from .fields import WHITENING_TOKENS, white_view
from .learner import Backward, StepOutcome
from .losses import class_weights, heads_loss
from .pixels import PixelField, RegionStream, Rows
from .processes import Processes
from .spec import TrainSpec
from .streams import TwoStreams

__all__ = ["StreamedLearner"]


@dataclass(frozen=True)
class _Drawn:
    """What one step sees of a slide."""

    field: PixelField
    rows: Rows
    rng: np.random.Generator
    weight: float


@dataclass
class StreamedLearner:
    """A `Learner` on pixels: memory depends neither on the slides' size nor on their number.

    Attributes:
        model: Whitening fitted.
        train: Slides to learn from.
        val: Slides that choose the best epoch; may be empty.
        spec: The recipe.
        device: Where, and in which precision the region encoder computes.
        processes: That share the slides of a step.
    """

    model: XT
    train: Sequence[PixelField]
    val: Sequence[PixelField]
    spec: TrainSpec
    device: Device
    processes: Processes = field(default_factory=Processes)
    trains_encoder: bool = True
    is_small: bool = False

    def __post_init__(self) -> None:
        spec, model = self.spec, self.model
        soft = torch.from_numpy(np.concatenate([one.truth.soft for one in self.train]))
        weights = torch.from_numpy(np.concatenate([one.truth.weights for one in self.train]))
        self._by_class = class_weights(soft, weights, spec.class_balance).to(model.device)
        self._encoder = BatchEncoder(model.region_encoder, self.device)
        self._streams = TwoStreams(
            model.region_encoder, self.device, checkpoints=spec.activation_checkpoints
        )
        # The weights change: nothing of what is encoded may be kept.
        self._reading = spec.model_copy(update={"use_cache": False})

    def __len__(self) -> int:
        return len(self.train)

    @property
    def scales_loss(self) -> bool:
        """See `Learner`."""
        return self.device.kind == "cuda" and self.device.precision == "fp16"

    def fingerprint(self) -> str:
        """See `Learner`."""
        digest = hashlib.sha256()
        for one in (*self.train, *self.val):
            digest.update(one.identity.encode())
            for values in (one.cells, one.truth.soft, one.truth.weights):
                digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

    def counts(self) -> npt.NDArray[np.int64]:
        """See `Learner`."""
        counts = np.zeros(len(self._by_class), np.int64)
        for one in self.train:
            counts += np.bincount(one.truth.true[one.truth.known], minlength=len(counts))
        return counts

    def step(
        self, slides: Sequence[int], epoch: int, rng: np.random.Generator, backward: Backward
    ) -> StepOutcome | None:
        """See `Learner`; slides draw from generators of their own, whatever process they go to."""
        drawn = [self._draw(index, epoch) for index in slides]
        total = sum(one.weight for one in drawn)
        if total == 0:
            return None
        n_classes = len(self._by_class)
        loss, confusion = 0.0, np.zeros((n_classes, n_classes + 1))
        for one in self.processes.mine(drawn):
            outcome = self._learn(one, total, backward)
            if outcome is not None:
                loss += outcome.loss
                confusion += outcome.confusion
        found = self.processes.add(np.append(confusion.ravel(), loss))
        return StepOutcome(float(found[-1]), found[:-1].reshape(confusion.shape))

    def validate(self) -> dict[str, float]:
        """See `Learner`."""
        if not self.val:
            return {}
        tally = Tally(len(self._by_class))
        self.model.eval()
        for one in self.processes.mine(self.val):
            view = white_view(self.model, self._loaded(one)).view
            tally.add(self.model, [view], self._by_class)
        tally.numbers = self.processes.add(tally.numbers)
        return tally.row()

    def judge(self) -> list[Judged]:
        """See `Learner`."""
        self.model.eval()
        return [judge(self.model, self._loaded(one)) for one in self.val]

    def feature_stats(self) -> FeatureStats:
        """See `Learner`; of as many slides as whitening needs."""
        self.model.eval()
        tokens: list[npt.NDArray[np.float32]] = []
        order = np.random.default_rng(self.spec.seed).permutation(len(self.train))
        for index in order:
            tokens.append(white_view(self.model, self._loaded(self.train[index])).view.tokens)
            if sum(part.shape[0] * part.shape[1] for part in tokens) >= WHITENING_TOKENS:
                break
        return stats_of(np.concatenate(tokens))

    def _loaded(self, one: PixelField) -> SlideField:
        return load_field(one.source, self.model.card, self._encoder, self._reading)

    def _draw(self, index: int, epoch: int) -> _Drawn:
        one = self.train[index]
        rng = np.random.default_rng([self.spec.seed, epoch, index])
        rows = one.crop(self.spec.field_regions, rng)
        by_slide = self.model.card.task == "slide"
        weights = one.truth.weights if by_slide else one.truth.weights[rows]
        return _Drawn(one, rows, rng, float(weights.sum()))

    def _learn(self, drawn: _Drawn, total: float, backward: Backward) -> StepOutcome | None:
        spec, model, rng = self.spec, self.model, drawn.rng
        look = Appearance.draw(
            rng, turns=spec.turns, colour=spec.colour_jitter, stain=spec.stain_jitter
        )
        with drawn.field.open(spec) as slide:
            regions = RegionStream(
                slide,
                drawn.field,
                drawn.rows,
                look,
                at_once=spec.regions_at_once,
                threads=spec.workers,
            )
            tokens, good = self._streams.forth(regions, spec.max_failed_fraction)
            places = np.flatnonzero(good)
            if not len(places):
                return None
            leaf = tokens[torch.from_numpy(places).to(tokens.device)].requires_grad_()
            batch = self._batch(drawn, drawn.rows[places], leaf, look.way)
            both = decode(model, batch)
            part = heads_loss(both, batch.soft, batch.weights, self._by_class, spec)
            part = part * (batch.weights.sum() / total)
            backward(part)
            if leaf.grad is None:
                raise TypeError("the loss does not depend on the regions' tokens")
            n_taught = math.ceil(spec.grad_ratio * len(places))
            taught = np.sort(rng.permutation(len(places))[:n_taught])
            wanted = leaf.grad[torch.from_numpy(taught).to(leaf.device)]
            if bool(wanted.isfinite().all()):
                self._streams.back(regions, places[taught], wanted)
        return StepOutcome(part.item(), batch.confusion(both[0]))

    def _batch(self, drawn: _Drawn, rows: Rows, features: Tensor, way: int) -> Batch:
        """One field, blurred and blanked as in cached training, its places turned and shifted."""
        spec, rng = self.spec, drawn.rng
        white = self.model.reduce.whiten(features)
        if spec.token_noise:
            noise = rng.standard_normal(tuple(white.shape), dtype=np.float32)
            white = white + spec.token_noise * torch.from_numpy(noise).to(white.device)
        if spec.token_dropout:
            kept = rng.random(len(white)) >= spec.token_dropout
            white = white * torch.from_numpy(kept).to(white)[:, None, None]
        truth = drawn.field.truth
        if self.model.card.task != "slide":
            truth = truth[rows]
        places_um = drawn.field.lattice.centres_um(drawn.field.cells[rows])
        # The pixels are turned already, and with them the tokens inside a region.
        empty = np.zeros((len(rows), 1, 0), np.float32)
        view = shift(turn(View(empty, places_um, truth.soft, truth.weights), way), rng)
        batch = Batch.of([view], white.device)
        return Batch(white[None], batch.positions_um, batch.padding, batch.soft, batch.weights)
