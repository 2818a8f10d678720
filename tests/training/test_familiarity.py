"""What a model says of slides that look unlike those it was trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from support.training import tiny_training

from xt_backend import score
from xt_backend.engine.familiarity import unfamiliar_regions
from xt_backend.model import FeatureStats, ModelCard, load_model, read_card
from xt_backend.slides import COLOUR_NUMBERS, open_slide, stained_colours
from xt_backend.store import ScoreMap
from xt_backend.training import train
from xt_backend.training.cached import stats_of

OPTIONS = {"slide_mpp": 1.0, "tissue": "all", "device": "cpu"}


@pytest.fixture(scope="module")
def model(slides_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model") / "two.safetensors"
    train(tiny_training(slides_folder, out, epochs=1))
    return out


@pytest.fixture(scope="module")
def card(model: Path) -> ModelCard:
    return read_card(model)


def tinted(slide: Path, out: Path, factors: tuple[float, float, float]) -> Path:
    """The same slide with stains that take so many times more light of each colour."""
    taken = (255 - tifffile.imread(slide)) * np.array(factors)
    pixels = np.clip(255 - taken, 0, 255).astype(np.uint8)
    tifffile.imwrite(out, pixels, tile=(128, 128), photometric="rgb")
    return out


def test_training_slides_are_familiar(model: Path, slides_folder: Path, tmp_path: Path) -> None:
    run = score(sorted(slides_folder.glob("*.tif")), model, tmp_path / "run", **OPTIONS)
    assert run.slides["reason"].fillna("").tolist() == [""] * 5


@pytest.mark.parametrize(
    ("factors", "said"),
    [((1.5, 1.0, 1.0), "bluer"), ((1.0, 1.0, 1.5), "more yellow"), ((0.5, 0.5, 0.5), "paler")],
)
def test_other_colours_are_told(
    model: Path,
    slides_folder: Path,
    tmp_path: Path,
    factors: tuple[float, float, float],
    said: str,
) -> None:
    slide = tinted(slides_folder / "s2.tif", tmp_path / "other.tif", factors)
    run = score([slide], model, tmp_path / "run", **OPTIONS)
    reason = run.slides["reason"][0]
    assert "out of distribution" in reason
    assert said in reason
    assert run.slides["status"][0] == "done"
    score_map = ScoreMap.load(tmp_path / "run" / "other.run.h5")
    assert len(score_map.warnings) >= 1
    assert "two was trained on" in score_map.warnings[0]


def test_the_card_knows_the_range_of_colours(card: ModelCard, slides_folder: Path) -> None:
    rows = []
    for path in sorted(slides_folder.glob("*.tif")):
        with open_slide(path) as slide:
            rows.append(stained_colours(slide.thumbnail(2048)))
    assert set(card.colour_range) == set(COLOUR_NUMBERS)
    for column, name in enumerate(COLOUR_NUMBERS):
        low, high = card.colour_range[name]
        # One of the slides chose the epoch and is not part of the range.
        values = [row[column] for row in rows if row is not None]
        assert min(values) <= low <= high <= max(values)


def test_colours_do_not_depend_on_the_scale(slides_folder: Path) -> None:
    with open_slide(slides_folder / "s2.tif") as slide:
        large, small = (stained_colours(slide.thumbnail(side)) for side in (512, 64))
    assert small == pytest.approx(large, abs=0.02)


def test_bare_glass_has_no_colours(tmp_path: Path) -> None:
    pixels = np.full((256, 256, 3), 240, np.uint8)
    tifffile.imwrite(tmp_path / "g.tif", pixels, tile=(128, 128), photometric="rgb")
    with open_slide(tmp_path / "g.tif") as slide:
        assert stained_colours(slide.thumbnail(256)) is None


def test_distance_is_in_standard_deviations_of_the_training() -> None:
    stats = FeatureStats(mean=(1.0, 0.0), std=(2.0, 0.5))
    assert stats.distance([1.0, 0.0]) == 0
    assert stats.distance([3.0, 0.5]) == pytest.approx(1.0)
    assert stats.distance([1.0, 1.0]) == pytest.approx(2**0.5)


def test_limit_leaves_room_beyond_the_furthest_training_slide() -> None:
    rng = np.random.default_rng(0)
    slides = [rng.normal(shift, 1, (200, 4, 3)).astype(np.float32) for shift in (0, 0, 0, 2)]
    stats = stats_of(slides)
    furthest = stats.distance(slides[3].mean(axis=(0, 1)).tolist())
    assert stats.limit == pytest.approx(1.5 * furthest)
    alike = stats_of(slides[:3])
    assert alike.limit == 0.5


def test_other_regions_are_told(model: Path, card: ModelCard) -> None:
    stats = card.feature_stats
    assert stats is not None
    assert stats.limit is not None
    mean, std = (torch.tensor(one) for one in (stats.mean, stats.std))
    usual = (mean + 0.1 * std).expand(5, 1, -1)
    assert unfamiliar_regions(card, usual) is None
    unusual = (mean + 3 * stats.limit * std).expand(5, 1, -1).clone()
    said = unfamiliar_regions(card, unusual)
    assert said is not None
    assert "(3.0 times the limit)" in said
    unusual[0] = torch.nan
    assert unfamiliar_regions(card, unusual) == said
    unknown = card.model_copy(update={"feature_stats": None})
    assert unfamiliar_regions(unknown, unusual) is None
    assert load_model(model).card.feature_stats == stats
