"""What the tests of faults share."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
PATIENCE_S = 1200
"""Many start processes, one after another: on a busy machine that takes long and is no fault."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            # In front of a test's own, which says how long it takes where nothing else runs.
            item.add_marker(pytest.mark.timeout(PATIENCE_S), append=False)
