"""The features that a finished run left, found without reading a slide."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from xt_backend.config import cache_folder
from xt_backend.engine import ContextFeatures, key_of_run
from xt_backend.errors import StoreError, UsageError
from xt_backend.keys import FeaturesMeta, RunFile, RunMeta
from xt_backend.outputs import FeatureTable, Level, SlideRow, When, read_features_h5
from xt_backend.store import FeatureRows, RegionStore, ScoreMap, SomeRows, StoredRows, StoreKey
from xt_backend.wording import counted

__all__ = ["RunFeatures"]

_AGAIN = "score it again with the same model and options into another folder, and export that one"


class RunFeatures:
    """Features of a run's slides: of `features` from its files, of `score` from the cache.

    Args:
        run_dir: Folder of the run.
        local: Content of its local.json; empty where there is none.
        cache: Folder of the region stores; None for the one that local.json names.
        model: Name or file of the model, for features after context; None for the one that
            local.json names.
    """

    def __init__(
        self, run_dir: Path, local: dict[str, Any], cache: Path | None, model: str | None
    ) -> None:
        self._run_dir = run_dir
        self._local = local
        self._cache = cache
        self._model = model
        self._context: ContextFeatures | None = None

    def extracted(self, row: SlideRow, level: Level) -> FeatureTable:
        """From a file that ``features`` wrote in layout xt.

        Raises:
            StoreError: The file is damaged or not there.
            UsageError: It holds features of whole slides.
        """
        path = self._run_dir / f"{row.id}{RunFile.FEATURES}"
        table = read_features_h5(path, row.id, (row.width_px or 0, row.height_px or 0))
        return replace(table, level=level)

    def scored(self, score_map: ScoreMap, level: Level, when: When) -> FeatureTable:
        """From the region store that ``score`` filled; after context, through the run's model.

        Raises:
            UsageError: The run kept no features, or does not say which they are.
            StoreError: They are no longer all in the cache, or damaged.
            ModelError: After context only: the model is not to be had, or has no context.
        """
        key = key_of_run(score_map)
        if key is None:
            raise StoreError(
                f"The run of {score_map.slide_id} does not say where its features are, as it was "
                "made by an older version",
                f"To have them, {_AGAIN}; what is in the cache is not encoded again",
            )
        known = score_map.run_meta[RunMeta.FEATURES]
        numerics = known[FeaturesMeta.NUMERICS]
        features: FeatureRows
        features = before = self._stored(score_map, key, tuple(known[FeaturesMeta.SHAPE]))
        whole, encoder = None, str(numerics["encoder"])
        if when == "after":
            context = self._context_of(score_map)
            rows = np.flatnonzero(score_map.scored)
            centres = score_map.lattice.centres_um(score_map.cells[rows])
            tokens, whole = context.of(before, rows, centres)
            features = SomeRows(tokens[:, None], score_map.scored)
            encoder = context.name
            numerics = {**numerics, "model_sha256": score_map.model_sha256}
        return FeatureTable(
            slide_id=score_map.slide_id,
            size_px=(score_map.width_px, score_map.height_px),
            lattice=score_map.lattice,
            cells=score_map.cells,
            status=score_map.status,
            features=features,
            numerics=numerics,
            encoder=encoder,
            tissue=score_map.tissue,
            level=level,
            when=when,
            whole=whole,
            score_map=score_map,
        )

    @cached_property
    def cache(self) -> Path:
        """Folder of the region stores.

        Raises:
            UsageError: The run kept nothing.
        """
        if self._cache is not None:
            return self._cache
        named = self._local.get("cache", str(cache_folder()))
        if named is None:
            raise UsageError(
                "This run kept no features (--no-cache)",
                "Score the slides again without --no-cache into another folder, and export that "
                "one, or name a cache that holds them with --cache",
            )
        return Path(named)

    def _stored(self, score_map: ScoreMap, key: StoreKey, shape: tuple[int, int]) -> StoredRows:
        store = RegionStore.open(self.cache, key)
        stored = StoredRows(store, score_map.cells, score_map.scored, shape)
        if n := stored.n_missing:
            n_scored = int(score_map.scored.sum())
            raise StoreError(
                f"The features of {n:,} of {counted(n_scored, 'region')} of "
                f"{score_map.slide_id} are not in the cache (any more)",
                f"To make them, {_AGAIN}; or name the cache that holds them with --cache",
            )
        return stored

    def _context_of(self, score_map: ScoreMap) -> ContextFeatures:
        if self._context is None:
            named = self._model or self._local.get("model") or score_map.model_name
            if self._model is None and not Path(named).is_file():
                named = score_map.model_name
            self._context = ContextFeatures(named, score_map.model_sha256)
        return self._context
