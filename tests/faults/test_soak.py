"""Nothing grows with the number of slides."""

from __future__ import annotations

from pathlib import Path

from support.soak import Sample, soak, trend


def test_case_35_nothing_grows_with_the_number_of_slides(tmp_path: Path) -> None:
    found = trend(list(soak(6, tmp_path)))
    # Of so few rounds one may catch a thread that is about to end; one more a round would be 4.
    assert found.handles < 1
    assert found.threads < 1
    # scripts/soak, with many more rounds, allows 2 %.
    assert found.memory < 1.05


def test_growth_would_be_seen() -> None:
    leaking = [Sample(1000 + 20 * i, 10 + i, 3) for i in range(12)]
    found = trend(leaking)
    assert found.memory > 1.05
    assert found.handles > 0
    assert found.threads == 0
