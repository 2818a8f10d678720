"""A screened run: what it scores, what it says, and what it leaves as it was."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.cli import rows
from support.screening import SIDE, write_telling_model, write_two_tissues

import xt_backend
from xt_backend.batch.configuration import plain_options
from xt_backend.config import ScoreOptions
from xt_backend.keys import RegionStatus
from xt_backend.model import XT
from xt_backend.store import ScoreMap

Call = Callable[..., Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide, a model, and a run that looks at everything and keeps it."""
    folder = tmp_path_factory.mktemp("screening")
    write_two_tissues(folder / "two.tiff")
    write_telling_model(folder / "tiny.safetensors")
    score(folder, folder / "full")
    return folder


def score(made: Path, out: Path, cache: Path | None = None, **options: Any) -> ScoreMap:
    run = xt_backend.score(
        made / "two.tiff",
        str(made / "tiny.safetensors"),
        out,
        cache=made / "cache" if cache is None else cache,
        tissue="all",
        **options,
    )
    assert run.exit_code == 0
    return ScoreMap.load(out / "two.run.h5")


ASKED: dict[str, Any] = {"screen": 0.9, "screen_class": ("tumour",)}


def run_json(out: Path) -> Any:
    return json.loads((out / "run.json").read_text(encoding="utf-8"))


def test_regions_that_do_not_look_like_it_are_left_out(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = ScoreMap.load(made / "full" / "two.run.h5")
    positive = full.labels(region_only=True) == 1
    assert 0.4 < positive.mean() < 0.6
    seen = []
    predict = XT.predict_reduced

    def spy(model: XT, tokens: Any, positions: Any, *more: Any) -> Any:
        seen.append(positions.numpy())
        return predict(model, tokens, positions, *more)

    monkeypatch.setattr(XT, "predict_reduced", spy)
    found = score(made, tmp_path / "run", tmp_path / "own", **ASKED)
    out = found.status == RegionStatus.SCREENED_OUT
    assert out.mean() > 0.3
    assert 1 - out[positive].mean() >= 0.9
    # What is looked at is judged as in any run; context sees it in its place, and nothing else.
    np.testing.assert_array_equal(found.region_only_logits[~out], full.region_only_logits[~out])
    assert np.isnan(found.logits[out]).all()
    (positions,) = seen
    np.testing.assert_array_equal(positions, found.lattice.centres_um(found.cells[~out]))
    assert not found.partial
    n_out = int(out.sum())
    (row,) = rows(tmp_path / "run")
    assert (row["n_regions"], row["n_failed_regions"]) == (str(SIDE**2), "0")
    assert row["encoded_regions"] == str(SIDE**2 - n_out)
    assert row["n_screened_out"] == str(n_out)
    assert 0.9 <= float(row["screened_recall"]) < 1
    assert row["reason"] == ""
    fractions = [float(row[f"fraction_{name}"]) for name in ("normal", "tumour")]
    # Tissue that was not looked at is of no class; all regions have the same area here.
    assert sum(fractions) == pytest.approx(1 - n_out / SIDE**2)
    labels = found.labels()
    assert fractions[1] == pytest.approx((labels == 1).sum() / SIDE**2)
    about = run_json(tmp_path / "run")["screening"]["two"]
    assert about["screened_out_regions"] == n_out
    assert about["recall_bound"] == float(row["screened_recall"])
    with (tmp_path / "run" / "two.regions.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    left_out = [line for line in lines if line["status"] == "screened_out"]
    assert len(left_out) == n_out
    assert {(line["label"], line["prob_tumour"]) for line in left_out} == {("", "")}


def test_what_is_stored_changes_no_byte(made: Path, tmp_path: Path) -> None:
    """Everything stored, and nothing: the same regions are left out."""
    files = []
    for name, cache in (("stored", None), ("fresh", tmp_path / "fresh")):
        score(made, tmp_path / name, cache, **ASKED)
        files.append((tmp_path / name / "two.run.h5").read_bytes())
    assert files[0] == files[1]
    assert rows(tmp_path / "stored")[0]["encoded_regions"] == "0"
    assert rows(tmp_path / "stored")[0]["cache"] == "hit"


def test_a_screened_run_is_resumed(made: Path, tmp_path: Path) -> None:
    score(made, tmp_path, **ASKED)
    before = run_json(tmp_path)["screening"], rows(tmp_path)
    score(made, tmp_path, **ASKED)
    assert (run_json(tmp_path)["screening"], rows(tmp_path)) == before
    assert before[1][0]["n_screened_out"] != ""
    # A kill between the slide's own files and run.json loses nothing: they are found again.
    plain = {name: value for name, value in run_json(tmp_path).items() if name != "screening"}
    (tmp_path / "run.json").write_text(json.dumps(plain), encoding="utf-8")
    (tmp_path / "slides.csv").unlink()
    score(made, tmp_path, **ASKED)
    assert run_json(tmp_path)["screening"] == before[0]
    with pytest.raises(xt_backend.XTError, match="screen"):
        score(made, tmp_path)


def test_a_class_that_is_rare_is_sought_everywhere(made: Path, tmp_path: Path) -> None:
    rare = tmp_path / "rare"
    rare.mkdir()
    write_two_tissues(rare / "two.tiff", share=2 / SIDE)
    (rare / "tiny.safetensors").symlink_to(made / "tiny.safetensors")
    found = score(rare, tmp_path / "run", **ASKED)
    assert found.scored.all()
    (row,) = rows(tmp_path / "run")
    assert (row["status"], row["n_screened_out"], row["screened_recall"]) == ("done", "0", "1.0")
    assert row["reason"].startswith("nothing was screened out: ")
    assert "takes 29 to promise a recall of 0.9" in row["reason"]


def test_without_the_option_nothing_tells_of_it(made: Path) -> None:
    text = (made / "full" / "run.json").read_text() + (made / "full" / "slides.csv").read_text()
    assert "screen" not in text
    assert "screening" not in ScoreMap.load(made / "full" / "two.run.h5").run_meta


def test_the_order_of_the_classes_is_no_part_of_the_configuration() -> None:
    one, same, other = (
        plain_options(ScoreOptions(screen=0.9, screen_class=classes))
        for classes in (("b", "a", "b"), ("a", "b"), ("a",))
    )
    assert one == same != other


def test_a_wrong_wish_is_refused_before_any_work(call: Call, made: Path, tmp_path: Path) -> None:
    asked = ["score", made / "two.tiff", "--model", made / "tiny.safetensors", "--out", tmp_path]
    for more, words in (
        (["--screen", "0.95"], "--screen does not say what is sought"),
        (["--screen", "1.5", "--screen-class", "tumour"], "--screen is 1.5"),
        (["--screen-class", "tumour"], "--screen-class is given without --screen"),
        (["--screen", "0.9", "--screen-class", "cancer"], "has no class 'cancer'"),
    ):
        done = call(*asked, *more)
        assert done.returncode == 2
        assert words in done.stderr
    assert not list(tmp_path.iterdir())
