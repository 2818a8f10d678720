"""One small written sample, and layouts without pixels."""

from __future__ import annotations

import pytest

from xt_backend.samples import Sample, write_samples
from xt_backend.samples.layout import Layout, draw_layout

SIZE_PX = (2048, 2048)
SEED = 4


@pytest.fixture(scope="session")
def layout() -> Layout:
    """Outlines of the written sample."""
    return draw_layout(*SIZE_PX, (SEED, 0))


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """A sample of two lobules, one with a nest."""
    return write_samples(tmp_path_factory.mktemp("sample"), size_px=SIZE_PX, seed=SEED)[0]
