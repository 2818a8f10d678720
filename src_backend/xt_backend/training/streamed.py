"""Learning from pixels: where the region encoder is trained too, or there is a decoder."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xt_backend.engine import BatchDecoder, BatchEncoder, Device
from xt_backend.model import XT, FeatureStats
from xt_backend.slides import Slide

from .appearance import Appearance
from .augment import View
from .batch import Batch
from .cached import Tally, stats_of
from .dataset import SlideField, load_field
from .decoding import DecoderTeacher
from .draw import Draw
from .fields import WHITENING_TOKENS, white_view
from .judging import Judged, judge
from .learner import Backward, StepOutcome
from .losses import class_weights, heads_loss
from .parts import parts_loss
from .pixel_judging import PixelJudged, judge_pixels
from .pixel_metrics import mean_dice
from .pixels import Change, PixelField, RegionStream, Rows
from .processes import Processes
from .spec import TrainSpec
from .streams import TwoStreams

__all__ = ["StreamedLearner"]


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
    is_small: bool = False

    def __post_init__(self) -> None:
        spec, model = self.spec, self.model
        soft = torch.from_numpy(np.concatenate([one.truth.soft for one in self.train]))
        weights = torch.from_numpy(np.concatenate([one.truth.weights for one in self.train]))
        self._by_class = class_weights(soft, weights, spec.class_balance).to(model.device)
        self._encoder = BatchEncoder(model.region_encoder, self.device)
        self._streams = TwoStreams(
            model.region_encoder,
            self.device,
            checkpoints=spec.activation_checkpoints,
            parts=spec.parts or model.card.tokens_per_region,
        )
        # Where the weights change, nothing of what is encoded may be kept.
        caches = spec.use_cache and not self.trains_encoder
        self._reading = spec.model_copy(update={"use_cache": caches})
        self._teacher = None
        if model.dense_head is not None:
            self._teacher = DecoderTeacher(model, self._streams, self._by_class)
        self._kept: dict[Path, tuple[Rows, View]] = {}

    def __len__(self) -> int:
        return len(self.train)

    @property
    def trains_encoder(self) -> bool:
        """See `Learner`."""
        return self.spec.end_to_end

    @property
    def scales_loss(self) -> bool:
        """See `Learner`."""
        fp16 = self.device.kind == "cuda" and self.device.precision == "fp16"
        return fp16 and (self.trains_encoder or self._teacher is not None)

    def fingerprint(self) -> str:
        """See `Learner`."""
        digest = hashlib.sha256()
        for one in (*self.train, *self.val):
            digest.update(one.identity.encode())
            for values in (one.cells, one.truth.soft, one.truth.weights):
                digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

    def counts(self, *, validation: bool = False) -> npt.NDArray[np.int64]:
        """See `Learner`."""
        counts = np.zeros(len(self._by_class), np.int64)
        for one in self.val if validation else self.train:
            counts += np.bincount(one.truth.true[one.truth.known], minlength=len(counts))
        return counts

    def step(
        self, slides: Sequence[int], epoch: int, rng: np.random.Generator, backward: Backward
    ) -> StepOutcome | None:
        """See `Learner`; slides draw from generators of their own, whatever process they go to."""
        keys = rng.integers(2**32, size=len(slides)).tolist()
        drawn = [
            Draw.of(self.train[index], self.spec, (epoch, index, key))
            for index, key in zip(slides, keys, strict=True)
        ]
        total = sum(one.weight for one in drawn)
        # Heat maps without any object teach, too.
        pixel_total = max(1.0, sum(one.pixel_weight for one in drawn))
        if total == 0:
            return None
        n_classes = len(self._by_class)
        loss, confusion = 0.0, np.zeros((n_classes, n_classes + 1))
        for one in self.processes.mine(drawn):
            outcome = self._learn(one, total, pixel_total, backward)
            if outcome is not None:
                loss += outcome.loss
                confusion += outcome.confusion
        found = self.processes.add(np.append(confusion.ravel(), loss))
        return StepOutcome(float(found[-1]), found[:-1].reshape(confusion.shape))

    def validate(self) -> dict[str, float]:
        """See `Learner`; ``val_dice`` for masks."""
        if not self.val:
            return {}
        self.model.eval()
        n_classes = len(self._by_class)
        tally = Tally(n_classes)
        loss, weight, counts = 0.0, 0.0, np.zeros((n_classes, n_classes))
        for one in self.processes.mine(self.val):
            rows, view = self._seen(one)
            tally.add(self.model, [view], self._by_class)
            if self._teacher is not None and one.targets is not None:
                context = self._context(view)
                with one.open(self.spec) as slide:
                    regions = self._stream(slide, one, rows, lambda pixels: pixels)
                    more = self._teacher.judge(regions, one, rows, context)
                loss, counts = loss + more[0], counts + more[1]
                weight += float(one.targets.weights[rows].sum())
        tally.numbers = self.processes.add(tally.numbers)
        row = tally.row()
        if self._teacher is not None:
            found = self.processes.add(np.append(counts.ravel(), [loss, weight]))
            # Infinite where no region of them could be read; NaN stays, it ends the training.
            region_loss = 0.0 if math.isinf(row["val_loss"]) else row["val_loss"]
            row["val_loss"] = self.spec.region_weight * region_loss
            row["val_loss"] += float(found[-2]) / max(1.0, float(found[-1]))
            if self.model.card.task == "dense":
                row["val_dice"] = mean_dice(found[:-2].reshape(counts.shape))
        return row

    def judge(self) -> list[Judged]:
        """See `Learner`."""
        self.model.eval()
        return [judge(self.model, self._loaded(one)) for one in self.val]

    def judge_pixels(self) -> list[PixelJudged]:
        """See `Learner`."""
        if self._teacher is None:
            return []
        self.model.eval()
        decoder = BatchDecoder(self.model, self.device)
        return [judge_pixels(self.model, decoder, self._loaded(one), self.spec) for one in self.val]

    def colours(self) -> list[tuple[float, float, float]]:
        """See `Learner`."""
        return [one.colours for one in self.train if one.colours is not None]

    def feature_stats(self) -> FeatureStats:
        """See `Learner`; of as many slides as whitening needs."""
        self.model.eval()
        tokens: list[npt.NDArray[np.float32]] = []
        order = np.random.default_rng(self.spec.seed).permutation(len(self.train))
        for index in order:
            tokens.append(white_view(self.model, self._loaded(self.train[index])).view.tokens)
            if sum(part.shape[0] * part.shape[1] for part in tokens) >= WHITENING_TOKENS:
                break
        return stats_of(tokens)

    def _loaded(self, one: PixelField) -> SlideField:
        return load_field(one.source, self.model.card, self._encoder, self._reading)

    def _seen(self, one: PixelField) -> tuple[Rows, View]:
        """A validation slide as it is: its readable regions, and their white tokens."""
        # By path: slides of one name may lie in several folders.
        if one.source.path in self._kept:
            return self._kept[one.source.path]
        if self.trains_encoder:
            with one.open(self.spec) as slide:
                rows = np.arange(len(one.cells))
                regions = self._stream(slide, one, rows, lambda pixels: pixels)
                tokens, good = self._streams.forth(regions, self.spec.max_failed_fraction)
            # As score does it, which stores them so.
            features = (
                self._streams.pool(tokens).half().float()[torch.from_numpy(good).to(tokens.device)]
            )
        else:
            field = self._loaded(one)
            good = field.scored
            features = torch.from_numpy(field.features[good]).to(self.model.device, torch.float32)
        rows = np.flatnonzero(good)
        with torch.no_grad():
            white = self.model.reduce.whiten(features).cpu().numpy()
        truth = one.truth if self.model.card.task == "slide" else one.truth[rows]
        places_um = one.lattice.centres_um(one.cells[rows])
        seen = rows, View(white, places_um, truth.soft, truth.weights)
        if not self.trains_encoder:
            self._kept[one.source.path] = seen
        return seen

    @torch.no_grad()
    def _context(self, view: View) -> Tensor:
        """(n, dim) context tokens of a whole field."""
        batch = Batch.of([view], self.model.device)
        return self.model.decode_reduced(batch.tokens, batch.positions_um).context_tokens[0]

    def _learn(
        self, drawn: Draw, total: float, pixel_total: float, backward: Backward
    ) -> StepOutcome | None:
        spec, model, rng = self.spec, self.model, drawn.rng
        look = Appearance.draw(
            rng,
            turns=spec.turns,
            colour=spec.colour_jitter,
            stain=spec.stain_jitter,
            blur=spec.blur,
        )
        with drawn.field.open(spec) as slide:
            regions = self._stream(slide, drawn.field, drawn.rows, look)
            tokens, good = self._streams.forth(regions, spec.max_failed_fraction)
            places = np.flatnonzero(good)
            if not len(places):
                return None
            rows = drawn.rows[places]
            if len(rows) < len(drawn.rows):
                regions = self._stream(slide, drawn.field, rows, look)
            leaf = tokens[torch.from_numpy(places).to(tokens.device)]
            leaf.requires_grad_(self.trains_encoder)
            white = model.reduce.whiten(self._streams.pool(leaf))
            batch = drawn.batch(rows, white, look.way, spec)
            found = model.decode_reduced(batch.tokens, batch.positions_um)
            both = (found.logits[0], found.region_only_logits[0])
            if found.slide_logits is not None and found.region_only_slide_logits is not None:
                both = (found.slide_logits, found.region_only_slide_logits)
            taught = np.zeros(len(places), np.bool_)
            if self.trains_encoder:
                n_taught = math.ceil(spec.grad_ratio * len(places))
                taught[rng.permutation(len(places))[:n_taught]] = True
            part = heads_loss(both, batch.soft, batch.weights, self._by_class, spec)
            if spec.parts:
                part = part + spec.parts_weight * parts_loss(
                    model, drawn.field, rows, model.reduce.whiten(leaf), look.way,
                    self._by_class, spec.label_smoothing,
                )  # fmt: skip
            part = part * (batch.weights.sum() / total)
            loss = part.item()
            if self._teacher is None:
                backward(part)
            else:
                part = part * spec.region_weight
                context = found.context_tokens[0]
                ends = context.detach().requires_grad_()
                loss = part.item() + self._teacher.teach(
                    regions, drawn.field, rows, ends, taught, look.way, rng,
                    pixel_total, backward,
                )  # fmt: skip
                # The decoder's gradients are scaled already, the heads' not yet.
                backward(part, retain_graph=ends.grad is not None)
                if ends.grad is not None:
                    context.backward(ends.grad)  # type: ignore[no-untyped-call]
            if leaf.grad is not None:
                wanted = leaf.grad[torch.from_numpy(taught).to(leaf.device)]
                if bool(wanted.isfinite().all()):
                    self._streams.back(regions, np.flatnonzero(taught), wanted)
        return StepOutcome(loss, batch.confusion(both[0]))

    def _stream(self, slide: Slide, one: PixelField, rows: Rows, change: Change) -> RegionStream:
        spec = self.spec
        return RegionStream(
            slide, one, rows, change, at_once=spec.regions_at_once, threads=spec.workers
        )
