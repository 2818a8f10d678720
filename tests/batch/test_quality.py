"""What a run says of doubtful regions, and what leaving them out changes."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.cli import rows
from support.slides import tissue_image, write_tiff_slide

import xt_backend
from xt_backend.keys import Doubt, RegionStatus, RunMeta
from xt_backend.model import XT, read_card
from xt_backend.slides import Reader, RegionBatch
from xt_backend.store import RegionStore, ScoreMap

SIDE = 1024
PEN = (np.s_[256:512], np.s_[256:512])
"""Rows and columns of tissue under green ink: 4 of the 36 regions of 128 px."""


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = tissue_image(SIDE, SIDE, ((128, 128, 896, 896),))
    image[PEN] = (image[PEN] * np.array((0.1, 0.5, 0.3))).astype(np.uint8)
    return write_tiff_slide(tmp_path_factory.mktemp("pen") / "pen.tiff", image)


def score(slide: Path, model: Path, out: Path, cache: Path, **options: Any) -> ScoreMap:
    run = xt_backend.score(slide, str(model), out, cache=cache, tissue="all", **options)
    assert run.exit_code == 0
    return ScoreMap.load(out / "pen.run.h5")


def test_flags_stand_in_map_table_and_frame(slide: Path, tiny_model: Path, tmp_path: Path) -> None:
    found = score(slide, tiny_model, tmp_path / "run", tmp_path / "cache")
    flagged = found.quality == Doubt.PEN
    np.testing.assert_array_equal(
        np.flatnonzero(found.grid(flagged, fill=False)), [18, 19, 26, 27], "regions of 128 px"
    )
    assert found.scored.all(), "a flag alone leaves nothing out"
    assert found.quality_measures is not None
    assert (found.quality_measures[flagged, 3] > 0.9).all()
    with (tmp_path / "run" / "pen.regions.csv").open(newline="") as file:
        words = [row["quality"] for row in csv.DictReader(file)]
    assert [word == "pen" for word in words] == flagged.tolist()
    assert set(words) == {"pen", "good"}
    assert "4 regions look doubtful (4 pen)" in found.run_meta[RunMeta.NOTES]


def test_flagged_regions_are_left_out_on_request(
    slide: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_in = score(slide, tiny_model, tmp_path / "all", tmp_path / "cache")
    seen = []
    predict = XT.predict_reduced

    def spy(model: XT, tokens: Any, positions: Any, *more: Any) -> Any:
        seen.append(len(tokens))
        return predict(model, tokens, positions, *more)

    monkeypatch.setattr(XT, "predict_reduced", spy)
    found = score(slide, tiny_model, tmp_path / "run", tmp_path / "cache", exclude_flagged=True)
    out = found.status == RegionStatus.EXCLUDED
    np.testing.assert_array_equal(out, all_in.quality == Doubt.PEN)
    assert seen == [60], "the context encoder does not see them"
    assert np.isnan(found.logits[out]).all()
    assert not np.array_equal(found.logits[~out], all_in.logits[~out])
    np.testing.assert_array_equal(
        found.region_only_logits[~out], all_in.region_only_logits[~out], "nor anything else changes"
    )
    (row,) = rows(tmp_path / "run")
    assert row["reason"] == "4 regions were left out as doubtful"
    assert (row["encoded_regions"], row["n_failed_regions"]) == ("0", "0")


def keep_no_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is stored from now on is as earlier versions stored it."""
    append = RegionStore.append
    monkeypatch.setattr(
        RegionStore,
        "append",
        lambda self, *block: 0 if "measures" in self.key.numerics else append(self, *block),
    )


def test_bytes_depend_neither_on_cache_nor_on_batch(
    slide: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {"exclude_flagged": True}
    score(slide, tiny_model, tmp_path / "a", tmp_path / "cache", **asked)
    score(slide, tiny_model, tmp_path / "b", tmp_path / "cache", **asked)
    score(slide, tiny_model, tmp_path / "c", tmp_path / "other", batch_size=5, **asked)
    score(slide, tiny_model, tmp_path / "d", tmp_path / "none", use_cache=False, **asked)
    with monkeypatch.context() as earlier:
        keep_no_measures(earlier)
        score(slide, tiny_model, tmp_path / "e", tmp_path / "old", **asked)
    score(slide, tiny_model, tmp_path / "f", tmp_path / "old", **asked)
    first = (tmp_path / "a" / "pen.run.h5").read_bytes()
    for name in "bcdef":
        assert (tmp_path / name / "pen.run.h5").read_bytes() == first, name
    assert rows(tmp_path / "f")[0]["encoded_regions"] == "0"


def test_a_second_run_measures_nothing(
    slide: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score(slide, tiny_model, tmp_path / "a", tmp_path / "cache")
    monkeypatch.setattr("xt_backend.slides.quality.measure", None)
    found = score(slide, tiny_model, tmp_path / "b", tmp_path / "cache")
    assert (found.quality == Doubt.PEN).sum() == 4


def test_an_older_cache_is_read_for_once_and_not_after_features(
    slide: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = read_card(tiny_model)
    lattice = {"model_mpp": card.model_mpp, "region_px": card.region_px}
    read: list[int] = []
    of_all = Reader.__iter__

    def spy(self: Reader) -> Iterator[RegionBatch]:
        for batch in of_all(self):
            read.append(len(batch.rows))
            yield batch

    for name in ("score", "features"):
        with monkeypatch.context() as earlier:
            keep_no_measures(earlier)
            score(slide, tiny_model, tmp_path / name, tmp_path / f"{name}-cache")
    monkeypatch.setattr(Reader, "__iter__", spy)
    cache = tmp_path / "score-cache"
    score(slide, tiny_model, tmp_path / "score-1", cache)
    assert sum(read) == 64
    score(slide, tiny_model, tmp_path / "score-2", cache)
    assert sum(read) == 64, "what was measured once is kept"
    cache, read[:] = tmp_path / "features-cache", []
    options: dict[str, Any] = {"weights": "random", "tissue": "all", "cache": cache, **lattice}
    # Another encoder than the model's, whose features are there.
    xt_backend.features(slide, "mobilenetv3_small_050", tmp_path / "features-1", **options)
    assert sum(read) == 64
    found = score(slide, tiny_model, tmp_path / "features-2", cache)
    assert sum(read) == 64, "who reads for features measures as well"
    assert (found.quality == Doubt.PEN).sum() == 4


def test_features_read_nothing_only_to_measure_it(
    slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"weights": "random", "cache": tmp_path / "cache", "region_px": 128}

    def extract(name: str) -> int | None:
        made = xt_backend.features(slide, "tf_efficientnet_lite0", tmp_path / name, **options)
        assert made.exit_code == 0
        return made.rows[0].encoded_regions

    with monkeypatch.context() as earlier:
        keep_no_measures(earlier)
        assert extract("a")
    monkeypatch.setattr(Reader, "__iter__", None)
    assert extract("b") == 0
    contents = {(tmp_path / name / "pen.features.h5").read_bytes() for name in "ab"}
    assert len(contents) == 1


def test_damaged_measures_are_told_and_made_anew(
    slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    score(slide, tiny_model, tmp_path / "a", tmp_path / "cache")
    (shard,) = (tmp_path / "cache" / "quality").rglob("*.h5")
    shard.write_bytes(b"")
    found = score(slide, tiny_model, tmp_path / "b", tmp_path / "cache")
    assert (found.quality == Doubt.PEN).sum() == 4
    problems = json.loads((tmp_path / "b" / "run.json").read_text())["store_problems"]["pen"]
    assert any("moved aside" in problem for problem in problems)
    (row,) = rows(tmp_path / "b")
    assert row["encoded_regions"] == "0"


def test_the_command_says_the_same(
    slide: Path, tiny_model: Path, tmp_path: Path, call: Any
) -> None:
    out = tmp_path / "run"
    command = ("score", slide, "--model", tiny_model, "--out", out, "--tissue", "all")
    ran = call(*command, "--exclude-flagged")
    assert ran.returncode == 0, ran.stderr
    found = ScoreMap.load(out / "pen.run.h5")
    assert (found.status == RegionStatus.EXCLUDED).sum() == 4
    options = json.loads((out / "run.json").read_text())["configuration"]["options"]
    assert options["exclude_flagged"] is True
    again = call(*command)
    assert again.returncode == 2
    assert "exclude_flagged" in again.stderr
