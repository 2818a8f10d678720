"""The bundled model: context must be worth a lot on slides it has never seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from xt_backend.engine.familiarity import unfamiliar_colours, unfamiliar_regions
from xt_backend.model import FeatureStats, find_model, load_model, read_card
from xt_backend.slides import open_slide

Call = Callable[..., Any]


def test_context_tells_reactive_stroma_and_a_region_alone_cannot(
    call: Call, checkout: Path
) -> None:
    done = call(
        "evaluate", "--model", "context-demo", "--slides", checkout / "sample_slides",
        "--compare-context", "--bootstrap", "0", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)

    def stroma(head: str) -> float:
        f1 = report[head]["f1"]
        return (f1["normal"]["value"] + f1["reactive"]["value"]) / 2

    assert stroma("context") > 0.7
    assert stroma("context") - stroma("region_only") > 0.2


@pytest.mark.parametrize(
    ("slide", "said"),
    [
        ("bcss-roi/slides/bcss_1008.svs", "more violet"),
        ("slides-vendor/aperio/CMU-1-Small-Region.svs", "darker"),
        ("her2st-slides/her2st_C2.svs", "bluer"),
    ],
)
def test_real_tissue_is_not_what_it_knows(shared_data: Path, slide: str, said: str) -> None:
    with open_slide(shared_data / slide) as opened:
        warning = unfamiliar_colours(read_card(find_model("context-demo")), opened.thumbnail())
    assert warning is not None
    assert said in warning
    assert "out of distribution" in warning


def test_sample_slides_are_what_it_knows(checkout: Path) -> None:
    model = load_model("context-demo")
    (slide,) = (checkout / "sample_slides").glob("*.tiff")
    with open_slide(slide) as opened:
        assert unfamiliar_colours(model.card, opened.thumbnail()) is None
    stats = model.card.feature_stats
    assert isinstance(stats, FeatureStats)
    assert stats.limit is not None
    tokens = torch.tensor(stats.mean).repeat(4, 4, 1)
    assert unfamiliar_regions(model.card, tokens) is None
    assert unfamiliar_regions(model.card, tokens + 10 * stats.limit) is not None
