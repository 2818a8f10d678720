"""Slides whose region features are wanted, as work that may be done anywhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from xt_backend.config import FeatureOptions
from xt_backend.engine import (
    Ahead,
    BatchEncoder,
    Collected,
    Prepared,
    RegionsEncoded,
    Stages,
    Wish,
    choose_device,
    collect,
    features_shape,
    kept_encoders,
)
from xt_backend.errors import EngineError
from xt_backend.keys import Encoding, SlideStatus, Stopped
from xt_backend.model import RegionEncoder, build_region_encoder
from xt_backend.outputs import (
    FeatureKind,
    FeatureTable,
    SlideRow,
    get_layout,
    write_features,
)
from xt_backend.store import ScratchRows

from .folder import RunFolder
from .job import Job, Watch, Worker
from .made_before import made_before
from .outcome import Interrupted, Outcome
from .plan import Task
from .retry import told_before
from .rows import reason_of
from .task import attempt

__all__ = ["Extractor", "FeatureFiles", "FeatureJob", "region_encoder"]


def region_encoder(name: str, options: FeatureOptions) -> RegionEncoder:
    """The encoder that some options ask for.

    Args:
        name: Of timm.
        options: Of the batch.

    Raises:
        UsageError: There is none, or its weights are not to be had.
    """
    return build_region_encoder(
        name,
        region_px=options.region_px,
        input_px=options.input_px,
        tokens_per_region=options.tokens_per_region,
        pooling=options.pooling,
        weights=options.weights,
        offline=True if options.offline else None,
    )


@dataclass(frozen=True)
class FeatureFiles:
    """Where the files of a slide lie, as of `RunFolder`.

    Attributes:
        encoder: timm name.
        options: Of the batch.
    """

    encoder: str
    options: FeatureOptions

    def __call__(self, slide_id: str) -> Sequence[str]:
        """Places below the folder; the last file says that the slide is done."""
        options = self.options
        kind = FeatureKind(
            self.encoder,
            options.model_mpp,
            options.region_px,
            options.stride_px or options.region_px,
            options.level,
        )
        return get_layout(options.layout).files(kind, slide_id)


@dataclass(frozen=True)
class FeatureJob(Job):
    """See `Job`.

    Attributes:
        encoder: timm name.
    """

    options: FeatureOptions
    folder: RunFolder
    encoder: str

    def worker(self) -> Extractor:
        """See `Job`."""
        return Extractor(self)

    @property
    def files(self) -> dict[str, Path]:
        """See `Job`."""
        weights = self._weights
        return {} if weights is None else {"file of weights": weights}

    def absolute(self) -> Self:
        """See `Job`."""
        if (weights := self._weights) is None:
            return self
        named = {"weights": str(weights.absolute())}
        return replace(self, options=self.options.model_copy(update=named))

    @property
    def _weights(self) -> Path | None:
        named = self.options.weights
        return None if named in ("pretrained", "random") else Path(named)

    def finished(self, task: Task) -> Outcome | None:
        """See `Job`; known by content and configuration."""
        return made_before(task, self.options, self.folder)

    def recovered(self, task: Task) -> Outcome | None:
        """See `Job`; the slide and its files, of which there may be many, are not looked at."""
        return told_before(task, self.options, self.folder)


class Extractor(Worker):
    """Encodes slides and writes their features; see `Worker`.

    Args:
        job: The job.
        encoder: That is made already, if one is.
    """

    def __init__(self, job: FeatureJob, encoder: BatchEncoder | None = None) -> None:
        self._job = job
        self._made = encoder
        self._ahead = Ahead()

    def ready(self) -> None:
        """Make the encoder.

        Raises:
            XTError: It cannot be had here, or is another one than that of the plan.
        """
        self._encoder  # noqa: B018  made when first named

    @property
    def _encoder(self) -> BatchEncoder:
        if self._made is None:
            job = self._job
            net = region_encoder(job.encoder, job.options)
            device = choose_device(job.options.device, job.options.precision)
            made = BatchEncoder(net, device, job.choice.way, kept_encoders(job.options))
            if made.numerics() != job.folder.configuration["numerics"]:
                raise EngineError(
                    f"{job.encoder} is not the encoder of the plan here: its weights, or what "
                    "computes it, are others",
                    "Give all machines the same file with --weights, and the same versions",
                )
            self._made = made
        return self._made

    def run(
        self,
        task: Task,
        watch: Watch = lambda task, told: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Outcome:
        """See `Worker`."""

        def on_regions(done: int, total: int) -> None:
            watch(task, RegionsEncoded(done, total))

        def work() -> Outcome:
            stages = Stages()
            with stages.timed("open"):
                found = job.finished(task)
            if found is not None:
                return replace(found, seconds=stages.to_dict())
            if cancelled():
                raise Interrupted(Stopped.NOT_STARTED)
            with stages.timed("open"):
                prepared = self._ahead.take(self._wish(task))
            with prepared.slide:
                return self._extract(task, prepared, stages, on_regions, cancelled)

        job = self._job
        return attempt(task, job.options, job.folder, work, list(job.files.values()))

    def begin(self, task: Task) -> None:
        """See `Worker`."""
        self._ahead.begin(self._wish(task))

    def close(self) -> None:
        """See `Worker`."""
        self._ahead.close()

    def _wish(self, task: Task) -> Wish:
        options = task.own_options(self._job.options)
        return Wish(task.source.path, options.model_mpp, options.region_px, options)

    def _extract(
        self,
        task: Task,
        prepared: Prepared,
        stages: Stages,
        on_regions: Callable[[int, int], None],
        cancelled: Callable[[], bool],
    ) -> Outcome:
        options, encoder, folder = self._job.options, self._encoder, self._job.folder
        started = time.perf_counter()
        n_before = encoder.n_encoded
        info = prepared.slide.info
        # Not in memory, which would then grow with the slide.
        with ScratchRows.made_in(folder.path, features_shape(prepared, encoder)) as features:
            found = collect(
                prepared,
                encoder,
                options,
                features,
                on_regions,
                cancelled,
            )
            if not found.complete:
                raise Interrupted
            stages.add(found.seconds)
            outcome = self._outcome(
                task,
                prepared,
                found,
                stages,
                time.perf_counter() - started,
                encoder.n_encoded - n_before,
            )
            table = FeatureTable(
                slide_id=task.slide_id,
                size_px=(info.width_px, info.height_px),
                lattice=prepared.lattice,
                cells=prepared.cells,
                status=found.status,
                features=features,
                numerics=encoder.numerics(),
                encoder=self._job.encoder,
                tissue=prepared.tissue_shares(),
                level=options.level,
            )

            def note(digests: dict[str, str]) -> None:
                folder.note(replace(outcome, files=digests))

            with stages.timed("write"):
                folder.reopen(task.slide_id)
                write_features(get_layout(options.layout), folder.path, table, note)
        return replace(outcome, seconds=stages.to_dict())

    def _outcome(
        self,
        task: Task,
        prepared: Prepared,
        found: Collected,
        stages: Stages,
        seconds_total: float,
        encoded: int,
    ) -> Outcome:
        info, n = prepared.slide.info, len(prepared.cells)
        failed = int((~found.scored).sum())
        row = SlideRow(
            row=task.source.row,
            slide=task.name,
            id=task.slide_id,
            status=SlideStatus.DONE if n else SlideStatus.EMPTY,
            reason=reason_of(
                n,
                notes=prepared.notes,
                warnings=prepared.warnings,
                n_failed=failed,
                n_nan=found.n_nan,
            ),
            slide_mpp=prepared.mpp.value,
            mpp_source=prepared.mpp.source,
            width_px=info.width_px,
            height_px=info.height_px,
            n_regions=n,
            n_failed_regions=failed,
            seconds_read=found.seconds["read"],
            seconds_encode=found.seconds["encode"],
            seconds_total=seconds_total,
            encoded_regions=encoded,
            cache=str(Encoding.of(found.reused, encoded)),
        )
        return Outcome(
            row,
            seen_nan=found.n_nan > 0,
            problems=found.problems,
            reader=str(prepared.slide.reading),
            seconds=stages.to_dict(),
            configuration=self._job.folder.digest(task.own_options(self._job.options)),
            identity=prepared.slide.identity(),
        )
