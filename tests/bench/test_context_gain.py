"""What the page says of the trainings with and without context."""

from __future__ import annotations

from typing import Any

import pytest

from xt_backend.bench.benchmark import Result
from xt_backend.bench.context_gain import KINDS, ContextGain, FullContextGain


def trial(f1: float) -> dict[str, Any]:
    heads = {"f1": {"normal": f1, "reactive": f1}}
    return {"context": heads, "region_only": heads, "seconds": 60.0}


@pytest.mark.parametrize(
    ("benchmark", "quick", "has_goal"),
    [(ContextGain, False, False), (FullContextGain, False, True), (FullContextGain, True, False)],
)
def test_the_goal_is_that_of_the_whole_recipe(
    benchmark: type[ContextGain], quick: bool, has_goal: bool
) -> None:
    results = [Result({"context": kind, "seed": 0}, trial(0.5)) for kind in KINDS]
    section = benchmark().section(results, quick)
    assert ("Wanted" in section.tables[0].caption) is has_goal
    (axes,) = section.pictures[0].draw().axes
    assert ("wanted" in [text.get_text() for text in axes.texts]) is has_goal
    assert any(list(line.get_ydata()) == [0.95, 0.95] for line in axes.lines) is has_goal
