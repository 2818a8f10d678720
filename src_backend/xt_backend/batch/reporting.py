"""Reports of a run: a page a slide, and one for all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xt_backend.config import ExportOptions
from xt_backend.errors import InputNotFoundError, ModelError, UsageError, XTError
from xt_backend.keys import RunFile
from xt_backend.model import ModelCard, find_model, read_card
from xt_backend.outputs import (
    SlideMask,
    SlideRow,
    point_kinds,
    read_mask,
    read_points_csv,
    read_slides_csv,
)
from xt_backend.outputs.report import (
    MOST_THUMBNAILS,
    BatchFacts,
    ModelFacts,
    SlideFacts,
    mask_uri,
    overlay_picture,
    picture_uri,
    thumbnail_uri,
    write_batch_page,
    write_slide_page,
)
from xt_backend.store import Points, ScoreMap

from .exporter import Exporter

__all__ = ["Reporter"]


class Reporter(Exporter):
    """Writes ``<id>.report.html`` and ``report.html``.

    Args:
        run_dir: Folder of the run.
        run: Content of its run.json; empty where there is none.
        local: Content of its local.json; empty where there is none.
        options: The model may be named where local.json does not.

    Raises:
        UsageError: Options that mean nothing for a report.
        ModelError: The model that was named is not the run's.
        InputNotFoundError: It is not there.
    """

    def __init__(
        self, run_dir: Path, run: dict[str, Any], local: dict[str, Any], options: ExportOptions
    ) -> None:
        if options.merged or options.gzip or options.cache is not None:
            raise UsageError("--merged, --gzip and --cache mean nothing for a report", "Leave them")
        self._run_dir = run_dir
        self._run = run
        self._model = ModelFacts.of_run(run)
        if (card := _card(self._model, local, options.model)) is not None:
            self._model = ModelFacts.of_card(card)
        self._thumbnails: dict[str, str] = {}
        self._pages: list[SlideRow] = []
        self._problems: dict[str, str] = {}

    def write(self, folder: Path, row: SlideRow) -> tuple[Path, ...]:
        """See `Exporter`."""
        try:
            path = self._write(folder, row)
        except Exception as error:
            # Other errors may name folders; whoever calls logs them.
            known = isinstance(error, XTError)
            self._problems[row.id] = str(error) if known else f"unexpected {type(error).__name__}"
            raise
        self._pages.append(row)
        return (path,)

    def _write(self, folder: Path, row: SlideRow) -> Path:
        score_map = ScoreMap.load(self._file(row, RunFile.SCORE_MAP))
        if not self._model.task:
            self._model = ModelFacts.of_map(score_map)
        found = self._found(row, score_map)
        picture = overlay_picture(self._file(row, RunFile.OVERLAY_PNG), score_map, found)
        mask = mask_uri(found) if isinstance(found, SlideMask) else ""
        facts = SlideFacts(row, score_map, picture_uri(picture), self._model, mask)
        path = folder / f"{row.id}{RunFile.REPORT}"
        write_slide_page(path, facts)
        if len(self._thumbnails) < MOST_THUMBNAILS:
            self._thumbnails[row.id] = thumbnail_uri(picture)
        return path

    def finish(self, folder: Path) -> tuple[Path, ...]:
        """See `Exporter`."""
        path = folder / RunFile.BATCH_REPORT
        facts = BatchFacts(
            rows=_rows(self._run_dir) or self._pages,
            run=self._run,
            model=self._model,
            thumbnails=self._thumbnails,
            pages=frozenset(row.id for row in self._pages),
            problems=self._problems,
        )
        write_batch_page(path, facts)
        return (path,)

    def _file(self, row: SlideRow, suffix: str) -> Path:
        return self._run_dir / f"{row.id}{suffix}"

    def _found(self, row: SlideRow, score_map: ScoreMap) -> SlideMask | Points | None:
        if score_map.task == "dense":
            return read_mask(self._file(row, RunFile.MASK))
        if score_map.task == "detection":
            kinds = point_kinds(score_map)
            return read_points_csv(self._file(row, RunFile.POINTS_CSV), kinds)
        return None


def _rows(run_dir: Path) -> list[SlideRow]:
    table = run_dir / RunFile.SLIDES_CSV
    return read_slides_csv(table)[0] if table.is_file() else []


def _card(model: ModelFacts, local: dict[str, Any], named: str | None) -> ModelCard | None:
    """The card of the model with the run's weights, if it can be found."""
    for name in [named] if named else [str(local.get("model") or ""), model.name]:
        try:
            card = read_card(find_model(name)) if name else None
        except (ModelError, InputNotFoundError):
            if named:
                raise
            continue
        if card is not None and card.state_sha256 == model.sha256:
            return card
    if named:
        raise ModelError(f"{Path(named).name} is not the model of this run", "Name that one")
    return None
