"""Features after context are made of features that are read block by block."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from xt_backend.engine import ContextFeatures, context_features
from xt_backend.model import load_model, read_card
from xt_backend.store import SomeRows

N_REGIONS = 40


class Spy:
    """Features that note how many rows are taken at once."""

    def __init__(self, features: Any) -> None:
        self.shape, self.dtype = features.shape, features.dtype
        self._features = features
        self.taken: list[int] = []

    def __getitem__(self, rows: Any) -> Any:
        self.taken.append(len(rows))
        return self._features[rows]


def test_no_more_features_are_in_memory_than_a_block(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(tiny_model)
    generator = np.random.default_rng(3)
    shape = (N_REGIONS, model.region_encoder.tokens_per_region**2, model.region_encoder.dim)
    features = generator.normal(size=shape).astype(np.float16)
    wanted = np.arange(N_REGIONS) % 5 != 2
    rows = np.flatnonzero(wanted)
    centres = generator.uniform(0, 4000, (len(rows), 2))
    monkeypatch.setattr(context_features, "_REGIONS_AT_ONCE", 6)
    spy = Spy(SomeRows(features[wanted], wanted))
    context = ContextFeatures(str(tiny_model), read_card(tiny_model).state_sha256, "cpu")
    tokens, whole = context.of(spy, rows, centres)
    assert spy.taken == [6, 6, 6, 6, 6, 2]
    assert whole is None
    expected = model.predict(torch.from_numpy(features[rows]), torch.from_numpy(centres))
    np.testing.assert_allclose(tokens, expected.context_tokens.numpy(), atol=1e-5)
    none, _ = context.of(spy, rows[:0], centres[:0])
    assert none.shape == (0, context.dim)
