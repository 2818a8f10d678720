"""One slide through one model: the generator that the window, scripts and batches share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from xt_backend.errors import ModelError, XTError
from xt_backend.keys import Doubt, Encoding, RegionStatus
from xt_backend.model import XT, find_model, read_card
from xt_backend.store import ScoreMap

from .ahead import Ahead, Wish
from .blank import blank_map
from .collection import check_failures
from .dense_pass import DensePass
from .device import Device, choose_device
from .encoder import BatchEncoder
from .encoders import EncoderChoice, Way
from .encoding import judge_of, settle_encoder
from .events import Event, RegionsScored, RunFinished, RunPlanned
from .extraction import Extracted, extract
from .failures import failure_of
from .familiarity import corrected_here, unfamiliar_colours, unfamiliar_regions
from .inspection import Inspection, doubts_note
from .loaded import Loaded
from .preparation import Overview, Prepared
from .remote import Remote, RemoteRun
from .rows import Rows
from .screening import Screen, describe, sought_in
from .source import Source, open_source
from .spec import RunSpec
from .stages import Stages

__all__ = ["Engine"]

EVENT_INTERVAL_S = 0.2
"""Partial maps are sent at most this often."""
_SCORED = (RegionStatus.OK, RegionStatus.EDGE)


class Engine:
    """Keeps the last model loaded and runs slides through it, one after another.

    Attributes:
        loaded: The model and its encoder.
        choice: How all runs encode, or fail; None lets each of them choose, and go on with torch
            where that cannot be had.
        ahead: Prepares the slide of the next run, if it is told.
        remote: The way to the worker of runs that are encoded on another machine.
    """

    def __init__(self) -> None:
        self.loaded = Loaded()
        self.choice: EncoderChoice | None = None
        self.ahead = Ahead()
        self.remote = Remote()

    def run(
        self,
        spec: RunSpec,
        cancelled: Callable[[], bool] = lambda: False,
        on_overview: Callable[[Overview], None] = lambda overview: None,
    ) -> Iterator[Event]:
        """Score one slide.

        Yields `RunPlanned`, any number of `RegionsScored`, for dense and detection models then
        `RegionsDecoded`, and exactly one of `RunFinished` and `RunFailed`. Nothing is raised but
        programming errors.

        Args:
            spec: What is asked for.
            cancelled: Asked after every read batch.
            on_overview: Given the picture that tissue was looked for on, and the tissue. Too large
                for an event, and a second or more of reading to whoever wants them as well.
        """
        try:
            yield from _Run(self, spec, cancelled, on_overview).events()
        except Exception as error:
            yield failure_of(error, spec)


class _Run:
    """The state of one run."""

    def __init__(
        self,
        engine: Engine,
        spec: RunSpec,
        cancelled: Callable[[], bool],
        on_overview: Callable[[Overview], None],
    ) -> None:
        self._engine = engine
        self._spec = spec
        self._cancelled = cancelled
        self._on_overview = on_overview
        self._stages = Stages()

    def events(self) -> Iterator[Event]:
        spec = self._spec
        device = self._device = choose_device(spec.own_device, spec.own_precision)
        prepared = self._load(device)
        with prepared.slide, ExitStack() as stack:
            with self._stages.timed("open"):
                if warning := unfamiliar_colours(self._model.card, prepared.thumbnail):
                    prepared.warn(warning)
                if warning := corrected_here(self._model.card, prepared.slide):
                    prepared.warn(warning)
                self._on_overview(prepared.overview)
                source = self._open(prepared, device)
                where, why = device, device.reason
                if (remote := source.remote) is not None:
                    stack.callback(remote.end)
                    where, why = remote.device, remote.reason
                score_map = blank_map(spec, self._model.card, prepared, where, source.encoder)
            yield RunPlanned(
                run_id=spec.run_id,
                score_map=score_map,
                n_regions=len(prepared.cells),
                n_cached=source.n_cached,
                device=where.name,
                device_reason=why,
                precision=where.precision,
                notes=(*prepared.notes, *source.problems),
                encoder=source.choice.in_words(),
            )
            with self._stages.timed("load"):
                source.prepare()
            yield from self._score(prepared, source, score_map)

    def _load(self, device: Device) -> Prepared:
        """Load the model while the slide's overview is read and tissue looked for."""
        spec = self._spec
        card = read_card(find_model(spec.model))
        self._sought = sought_in(card, spec)
        model_mpp = card.mpp(spec.model_mpp)
        with ThreadPoolExecutor(1, thread_name_prefix="xt-model") as pool:
            loading = pool.submit(
                self._engine.loaded.model, spec.model, device, spec.offline or None
            )
            try:
                wish = Wish(spec.slide, model_mpp, card.scored_px, spec, card.stain)
                with self._stages.timed("open"):
                    prepared = self._engine.ahead.take(wish)
            except XTError:
                loading.result()  # a model that cannot be used is the first thing to tell
                raise
        try:
            with self._stages.timed("load"):
                self._model = loading.result()
            if not (spec.context or self._model.has_region_only):
                raise ModelError(
                    f"Model {card.name} has no head that sees each region alone",
                    "Leave context on",
                )
        except BaseException:
            prepared.slide.close()
            raise
        return prepared

    def _open(self, prepared: Prepared, device: Device) -> Source:
        """What the run encodes with; torch where what it chose itself cannot be had."""
        model, spec, engine = self._model, self._spec, self._engine

        def loading() -> AbstractContextManager[None]:
            return self._stages.timed("load")

        if spec.elsewhere is not None:
            with loading():
                remote = RemoteRun(engine.remote, spec, model, self._cancelled)
                remote.open(prepared)
            source = Source.of(prepared, remote.choice, remote.encoder, spec)
            return replace(source, remote=remote)

        def make_encoder(way: Way) -> BatchEncoder:
            return engine.loaded.take_encoder(model, device, way, spec)

        if engine.choice is not None:
            with loading():
                encoder = make_encoder(engine.choice.way)
            return Source.of(prepared, engine.choice, encoder, spec)
        what, n = {"model": model.card.state_sha256}, len(prepared.cells)
        with self._stages.timed("probe"):
            choice = settle_encoder(
                model.region_encoder, what, device, spec, prepared, n, judge_of(model)
            )
        return open_source(prepared, choice, device, spec, make_encoder, loading)

    def _score(
        self,
        prepared: Prepared,
        source: Source,
        blank: ScoreMap,
    ) -> Iterator[Event]:
        spec, rows, encoder, n_cached = self._spec, Rows(blank), source.encoder, source.n_cached
        done, encoded, reused, last_event = 0, 0, 0, 0.0
        encode_started = time.perf_counter()
        for part in self._parts(prepared, source, rows):
            encoded += 0 if part.cached else int(np.isin(part.status, _SCORED).sum())
            rows.status[part.rows] = self._watched(part, rows)
            good = np.isin(rows.status[part.rows], _SCORED)
            if good.any():
                with self._stages.timed("context"):
                    rows.keep(self._model, part.rows[good], part.features[good])
            done += len(part.rows)
            reused += len(part.rows) if part.cached else 0
            n_cached += int((part.status == RegionStatus.SCREENED_OUT).sum())
            now = time.perf_counter()
            if now - last_event >= EVENT_INTERVAL_S:
                last_event = now
                yield self._progress(rows.map(), done, n_cached, now - encode_started)
        if source.remote is None:
            self._engine.loaded.give_back(encoder)
        cancelled = self._cancelled() and done < len(blank)
        dense = None
        if not cancelled:
            check_failures(rows.status, prepared.slide.info.name, spec.max_failed_fraction)
            seconds = time.perf_counter() - encode_started
            yield self._progress(rows.map(), done, n_cached, seconds, "context")
            rows.note(doubts_note(rows.quality, excluded=spec.exclude_flagged))
            self._predict(rows)
            model = self._model
            if isinstance(model, XT) and model.dense_head is not None:
                dense = DensePass(spec, model, self._device, prepared, rows, self._cancelled)
                yield self._progress(rows.map(), done, n_cached, seconds, "decode")
                yield from self._decode(dense, rows)
                cancelled = not dense.complete
            prepared.slide.check_unchanged()
        yield RunFinished(
            run_id=spec.run_id,
            score_map=rows.map(partial=cancelled),
            cancelled=cancelled,
            seconds=self._stages.all_told(),
            encoded_regions=encoded,
            cache=str(Encoding.of(reused, encoded)),
            points=None if dense is None else dense.points(),
            problems=(*source.problems, *self._inspection.problems),
            reader=str(prepared.slide.reading),
            encoder=source.choice.to_dict(),
        )

    def _parts(self, prepared: Prepared, source: Source, rows: Rows) -> Iterator[Extracted]:
        """All regions, or those of them that are not screened out."""
        spec, stages = self._spec, self._stages
        self._inspection = Inspection(prepared, spec.cache_dir(), spec.workers)

        def parts(wanted: npt.NDArray[np.int64]) -> Iterator[Extracted]:
            for part in extract(
                prepared.slide,
                prepared.lattice,
                prepared.cells[wanted],
                source.encoder,
                source.store,
                workers=spec.workers,
                batch_size=spec.batch_size,
                cancelled=self._cancelled,
                stages=stages,
                normalise=prepared.normaliser,
                inspection=self._inspection,
                remote=source.reads_there,
            ):
                yield replace(part, rows=wanted[part.rows])

        if self._sought is None or not len(rows.blank):
            return parts(np.arange(len(rows.blank), dtype=np.int64))
        return Screen(
            self._sought,
            rows,
            lambda: describe(prepared, spec.workers, stages, self._cancelled),
            parts,
            self._cancelled,
        ).parts()

    def _watched(self, part: Extracted, rows: Rows) -> npt.NDArray[np.uint8]:
        """Note the quality of some regions; their status, which depends on it where asked for."""
        if part.measures is None:
            return part.status
        doubts = self._inspection.judge(part.measures)
        rows.quality[part.rows], rows.measures[part.rows] = doubts, part.measures
        if not self._spec.exclude_flagged:
            return part.status
        out = np.isin(part.status, _SCORED) & (doubts > 0) & (doubts != Doubt.NOT_MEASURED)
        return np.where(out, np.uint8(RegionStatus.EXCLUDED), part.status)

    def _decode(self, dense: DensePass, rows: Rows) -> Iterator[Event]:
        """Hand on the pixels; what could not be read again is marked."""
        yield from dense.events()
        self._stages.add({**dense.seconds_read, "context": dense.seconds_decode})
        rows.status[dense.unreadable] = RegionStatus.READ_ERROR
        if dense.complete:
            spec = self._spec
            check_failures(rows.status, spec.slide.name, spec.max_failed_fraction)

    def _predict(self, rows: Rows) -> None:
        """Predict all regions together, in the order of the cells: the same bytes every time."""
        scored = np.isin(rows.status, _SCORED)
        if rows.tokens is None or not scored.any():
            return
        start = time.perf_counter()
        typical = scored if rows.typical is None else scored & rows.typical
        warning = unfamiliar_regions(self._model.card, rows.tokens[torch.from_numpy(typical)])
        if warning:
            rows.warn(warning)
        positions = rows.blank.lattice.centres_um(rows.blank.cells[scored])
        with torch.inference_mode():
            prediction = self._model.predict_reduced(
                rows.tokens[torch.from_numpy(scored)], torch.from_numpy(positions)
            )
        rows.region_only[scored] = prediction.region_only_logits.cpu().numpy()
        on = self._spec.context
        shown = prediction.logits if on else prediction.region_only_logits
        rows.logits[scored] = shown.cpu().numpy()
        if self._model.card.has_dense_head:
            rows.keep_context(scored, prediction.context_tokens)
        slide = prediction.slide_logits if on else prediction.region_only_slide_logits
        rows.slide_logits = None if slide is None else slide.cpu().numpy()
        self._stages.add({"context": time.perf_counter() - start})

    def _progress(
        self,
        score_map: ScoreMap,
        done: int,
        n_cached: int,
        seconds: float,
        stage: Literal["encode", "context", "decode"] = "encode",
    ) -> RegionsScored:
        fresh = max(0, done - n_cached)
        rate = fresh / seconds if fresh and seconds > 0 else 0.0
        total = len(score_map)
        return RegionsScored(
            run_id=self._spec.run_id,
            done=done,
            total=total,
            regions_per_s=rate,
            seconds_left=(total - done) / rate if rate else None,
            score_map=score_map,
            stage=stage,
        )
