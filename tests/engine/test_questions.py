"""Questions about a finished prediction, answered from stored features alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.asked import CLASSES, SIDE, make_asked
from support.reference import reference_model

from xt_backend.engine import Device, key_of_run
from xt_backend.engine.questions import (
    About,
    Influence,
    InfluenceMap,
    Repredicted,
    Respondent,
    Spread,
    SpreadMap,
    WhatIf,
    context_change,
    entropy,
    most_telling,
    respondent,
)
from xt_backend.engine.questions.influence import half_influence_um, margin_gradient
from xt_backend.engine.questions.stored import StoredField
from xt_backend.engine.questions.views import VIEWS, seen_from
from xt_backend.errors import ModelError, OutOfMemoryError, StoreError, UsageError
from xt_backend.keys import RegionStatus, RunMeta
from xt_backend.model import list_contexts, load_model, save_model
from xt_backend.model.deferred import DeferredEncoder
from xt_backend.model.positions import token_positions_um
from xt_backend.store import RegionStore

UNREAD = 1
"""The row that `make_asked` could not read."""


@pytest.fixture(autouse=True)
def _encoder_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No question makes the encoder, let alone asks it."""

    def refuse(self: DeferredEncoder) -> None:
        raise AssertionError("a question asked the encoder")

    monkeypatch.setattr(DeferredEncoder, "ready", refuse)


def assert_same(found: Any, wanted: Any) -> None:
    """But for the last bits: on some processors they depend on how many rows a product has."""
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)


def influence_of(about: About, row: int | None, index: int = 1) -> InfluenceMap:
    answer = Respondent().answer(Influence(about, row, index))
    assert isinstance(answer, InfluenceMap)
    return answer


def without(about: About, removed: list[int]) -> Repredicted:
    answer = Respondent().answer(WhatIf(about, np.array(removed, np.int64)))
    assert isinstance(answer, Repredicted)
    return answer


@pytest.mark.parametrize("kind", list_contexts())
def test_without_nothing_is_the_prediction_itself(kind: str, tmp_path: Path) -> None:
    about = make_asked(tmp_path, kind)
    again = without(about, []).score_map
    assert_same(again.logits, about.score_map.logits)
    np.testing.assert_array_equal(again.status, about.score_map.status)


def test_a_prediction_without_context_is_not_asked_about_it(tmp_path: Path) -> None:
    about = make_asked(tmp_path, "attention")
    alone = dataclasses.replace(
        about.score_map, run_meta={**about.score_map.run_meta, RunMeta.CONTEXT: False}
    )
    off = dataclasses.replace(about, score_map=alone)
    for question in (WhatIf(off, np.array([4])), Influence(off, 4, 1), Spread(off)):
        with pytest.raises(UsageError, match="from each region alone"):
            Respondent().answer(question)


@pytest.mark.parametrize("kind", list_contexts())
def test_what_is_left_out_is_not_looked_at(kind: str, tmp_path: Path) -> None:
    about = make_asked(tmp_path, kind)
    score_map = about.score_map
    removed = [4, 5, 13, 40]
    after = without(about, removed).score_map
    assert (after.status[removed] == RegionStatus.LEFT_OUT).all()
    assert np.isnan(after.logits[removed]).all()
    assert (after.labels()[removed] == -1).all()
    assert after.run_meta[RunMeta.LEFT_OUT] == len(removed)
    stays = np.setdiff1d(np.flatnonzero(score_map.scored), removed)
    assert np.isfinite(after.logits[stays]).all()
    assert_same(after.region_only_logits[stays], score_map.region_only_logits[stays])
    moved = np.abs(after.logits[stays] - score_map.logits[stays]).max()
    assert moved < 1e-5 if kind == "none" else moved > 1e-4
    # The same as if they had never been selected, each of the others at its place.
    few = dataclasses.replace(
        score_map,
        **{
            name: getattr(score_map, name)[np.setdiff1d(np.arange(len(score_map)), removed)]
            for name in ("cells", "status", "logits", "region_only_logits")
        },
    )
    same = without(dataclasses.replace(about, score_map=few), []).score_map
    assert_same(same.logits, after.logits[after.status != RegionStatus.LEFT_OUT])


@pytest.mark.parametrize("kind", list_contexts())
def test_influence_is_how_much_a_token_moves_the_logit(kind: str, tmp_path: Path) -> None:
    about = make_asked(tmp_path, kind, tokens_per_region=2)
    row, index = 40, 2
    answer = influence_of(about, row, index)
    assert np.isnan(answer.values[UNREAD])
    known = np.isfinite(answer.values)
    assert known.sum() == len(about.score_map) - 1
    assert (answer.values[known] >= 0).all()
    others = np.setdiff1d(np.flatnonzero(known), [row])
    if kind == "none":
        assert (answer.values[others] == 0).all()
        assert np.isnan(answer.half_um)
        return
    assert answer.half_um > 0
    strongest = int(others[answer.values[others].argmax()])
    respondent = Respondent()
    respondent.answer(WhatIf(about, np.empty(0, np.int64)))
    assert respondent._model is not None
    assert respondent._field is not None
    model, field = respondent._model[1], respondent._field[1]
    place, asked = field.place_of(strongest), field.place_of(row)
    step = margin_gradient(model, field, asked, (index, 0), VIEWS[0], lambda: False)[place]
    size = float(step.norm())
    step = 0.02 * step / size

    def margin(sign: float) -> float:
        changed = field.tokens.clone()
        changed[place] += sign * step
        with torch.inference_mode():
            logits = model.predict_reduced(changed, field.positions_um).logits[asked]
        return float(logits[index] - logits[0])

    slope = (margin(1) - margin(-1)) / 0.04
    assert slope == pytest.approx(size, rel=0.05)


def test_transformer_xl_is_seen_as_far_as_it_reaches(tmp_path: Path) -> None:
    reach = {"segment": 4, "memory": 4, "order": "raster", "bidirectional": False}
    about = make_asked(tmp_path, "transformer-xl", layers=2, **reach)
    row = 60
    answer = influence_of(about, row)
    assert answer.reach_tokens == 14
    scored = np.flatnonzero(np.isfinite(answer.values))
    sequence = {int(number): place for place, number in enumerate(scored)}
    back = np.array([sequence[row] - sequence[int(other)] for other in scored])
    seen = answer.values[scored] > 0
    assert not seen[back < 0].any()
    assert not seen[back > answer.reach_tokens].any()
    # Into the memory's memory: nothing is detached.
    assert seen[(back >= 0) & (back <= 7)].all()
    assert back[seen].max() > 8


def test_half_of_the_influence_lies_within_a_radius() -> None:
    places = np.array([[0.0, 0.0], [100.0, 0.0], [0.0, 200.0], [300.0, 0.0]])
    values = np.array([9.0, 1.0, 2.0, 1.0], np.float32)
    assert half_influence_um(values, places, 0) == 200
    assert half_influence_um(values, places, 3) == 300  # of 12, 3 lie within 200 to 223 um
    assert np.isnan(half_influence_um(np.array([5.0, 0, 0, 0], np.float32), places, 0))


def test_a_slide_model_is_asked_about_the_slide(tmp_path: Path) -> None:
    about = make_asked(tmp_path, task="slide")
    answer = influence_of(about, None)
    assert (answer.values[np.isfinite(answer.values)] > 0).all()
    assert answer.row is None
    after = without(about, [3, 4]).score_map
    before = about.score_map.slide_logits
    assert before is not None
    assert after.slide_logits is not None
    assert not np.allclose(after.slide_logits, before, atol=1e-6)
    (tmp_path / "region").mkdir()
    of_regions = make_asked(tmp_path / "region")
    with pytest.raises(ModelError, match="as a whole"):
        influence_of(of_regions, None)


def test_views_turn_places_and_the_tokens_in_them_alike() -> None:
    k, side_um = 2, 10.0
    centres = torch.tensor([[5.0, 5.0], [15.0, 5.0], [5.0, 25.0]], dtype=torch.float64)
    tokens = torch.arange(3 * k * k, dtype=torch.float32).view(3, k * k, 1)
    before = token_positions_um(centres, k, side_um)
    seen = set()
    for view in VIEWS:
        turned, places = seen_from(tokens, centres, view)
        at = token_positions_um(places, k, side_um)
        flat = turned.flatten().long()
        # Each token is where the whole slide, turned as one piece, has it.
        mirrored, upended, exchanged = view
        expected = before * before.new_tensor([-1 if mirrored else 1, -1 if upended else 1])
        expected = expected.flip(1) if exchanged else expected
        shift = at[flat.argsort()] - expected
        torch.testing.assert_close(shift, shift[:1].expand_as(shift))
        seen.add(tuple(at[flat.argsort()].flatten().tolist()))
    assert len(seen) == len(VIEWS) == 8


def test_spread_is_nought_without_context_and_not_with_it(tmp_path: Path) -> None:
    for kind in ("none", "mamba2"):
        (tmp_path / kind).mkdir()
        about = make_asked(tmp_path / kind, kind)
        answer = Respondent().answer(Spread(about))
        assert isinstance(answer, SpreadMap)
        assert answer.n_views == 8
        scored = about.score_map.scored
        assert np.isnan(answer.deviation[~scored]).all()
        np.testing.assert_allclose(answer.probabilities[scored].sum(axis=1), 1, atol=1e-5)
        if kind == "none":
            np.testing.assert_allclose(answer.deviation[scored], 0, atol=1e-4)
            assert (answer.agreement[scored] == 1).all()
            np.testing.assert_allclose(
                answer.probabilities[scored], about.score_map.probabilities[scored], atol=1e-5
            )
        else:
            assert answer.deviation[scored].max() > 0.01


@pytest.mark.parametrize("looks", [0, 3, 12])
def test_a_cancelled_question_has_no_answer(looks: int, tmp_path: Path) -> None:
    about = make_asked(tmp_path, "mamba2")
    for question in (
        Influence(about, 40, 0),
        WhatIf(about, np.array([1])),
        Spread(about),
    ):
        left = [looks]

        def cancelled(left: list[int] = left) -> bool:
            left[0] -= 1
            return left[0] < 0

        assert Respondent().answer(question, cancelled) is None
        assert left[0] == -1, "it went on after it was cancelled"


def test_where_the_device_is_full_the_processor_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As beside a run on the same graphics card; the next question tries the card again."""
    about = dataclasses.replace(make_asked(tmp_path), device="auto")
    asked: list[str] = []
    answers = respondent.what_if

    def on(model: Any, *rest: Any) -> Any:
        asked.append(model.device.type)
        if asked[-1] in full:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return answers(model, *rest)

    card = Device("meta", "fp32", "stands for a card: nothing on it can be computed")
    monkeypatch.setattr(respondent, "choose_device", lambda asked: card)
    monkeypatch.setattr(respondent, "what_if", on)
    monkeypatch.setattr(Respondent, "_load_field", _field_on_the_processor)
    full, question = {"meta"}, WhatIf(about, np.empty(0, np.int64))
    one = Respondent()
    for _ in range(2):
        answer = one.answer(question)
        assert isinstance(answer, Repredicted)
        assert_same(answer.score_map.logits, about.score_map.logits)
    assert asked == ["meta", "cpu"] * 2
    full.add("cpu")
    with pytest.raises(OutOfMemoryError, match=r"not enough memory to ask about .*run that is"):
        one.answer(question)


def _field_on_the_processor(self: Any, about: About, model: Any, cancelled: Any) -> Any:
    del self
    return None if model.device.type == "meta" else StoredField.load(about, model, cancelled)


def test_one_respondent_answers_about_one_slide_after_the_other(tmp_path: Path) -> None:
    respondent = Respondent()
    for name, kind, n in (("a", "none", None), ("b", "attention", 30), ("a2", "none", None)):
        (tmp_path / name).mkdir()
        about = make_asked(tmp_path / name, kind, n=n)
        for _ in range(2):
            answer = respondent.answer(WhatIf(about, np.empty(0, np.int64)))
            assert isinstance(answer, Repredicted)
            assert_same(answer.score_map.logits, about.score_map.logits)


def test_what_cannot_be_answered_says_why(tmp_path: Path) -> None:
    about = make_asked(tmp_path)
    everything = np.arange(len(about.score_map))
    with pytest.raises(UsageError, match="No region would be left"):
        Respondent().answer(WhatIf(about, everything))
    with pytest.raises(UsageError, match="not in the prediction"):
        Respondent().answer(WhatIf(about, np.array([len(everything)])))
    with pytest.raises(ModelError, match="not scored"):
        Respondent().answer(Influence(about, UNREAD, 0))
    with pytest.raises(StoreError, match="this run kept none"):
        Respondent().answer(Spread(dataclasses.replace(about, use_cache=False)))
    with pytest.raises(StoreError, match="not in the cache"):
        Respondent().answer(Spread(dataclasses.replace(about, cache=tmp_path / "other")))
    other = dataclasses.replace(about.score_map, model_sha256="f" * 64)
    with pytest.raises(ModelError, match="not the model of this run"):
        Respondent().answer(Spread(dataclasses.replace(about, score_map=other)))
    assert about.cache is not None
    shards = [
        path for path in about.cache.rglob("*") if path.is_file() and "index" not in path.name
    ]
    for path in shards:
        path.unlink()
    with pytest.raises(StoreError, match="not in the cache"):
        Respondent().answer(Spread(about))


def test_features_are_found_where_exports_find_them_also_without_an_index(tmp_path: Path) -> None:
    about = make_asked(tmp_path)
    assert about.cache is not None
    key = key_of_run(about.score_map)
    assert key is not None
    store = RegionStore.open(about.cache, key)
    known = about.score_map.cells[about.score_map.scored]
    assert store.has(known).all()
    few = RegionStore.open(tmp_path / "few", key)
    few.append(known[:10], *store.load(known[:10])[:2])
    with pytest.raises(StoreError, match="70 of its 80 regions are gone"):
        Respondent().answer(Spread(dataclasses.replace(about, cache=tmp_path / "few")))
    (store.folder / "index.json").unlink()
    assert_same(without(about, []).score_map.logits, about.score_map.logits)
    old = dataclasses.replace(about.score_map, run_meta={})
    assert key_of_run(old) is None
    with pytest.raises(StoreError, match="has not told where"):
        Respondent().answer(Spread(dataclasses.replace(about, score_map=old)))


def test_a_converted_model_keeps_nothing_to_ask_about(tmp_path: Path) -> None:
    about = make_asked(tmp_path)
    model = reference_model(model_mpp=0.5)
    save_model(model, tmp_path / "converted.safetensors")
    sha = load_model(tmp_path / "converted.safetensors").card.state_sha256
    other = dataclasses.replace(about.score_map, model_sha256=sha)
    about = dataclasses.replace(
        about, score_map=other, model=str(tmp_path / "converted.safetensors")
    )
    with pytest.raises(ModelError, match="was converted"):
        Respondent().answer(Spread(about))


def test_doubt_and_change_are_read_off_the_map(tmp_path: Path) -> None:
    score_map = make_asked(tmp_path).score_map
    logits = score_map.logits.copy()
    logits[2], logits[3] = 0.0, (60.0, 0.0, 0.0)
    score_map = dataclasses.replace(score_map, logits=logits)
    doubt = entropy(score_map)
    assert doubt[2] == pytest.approx(1)
    assert doubt[3] == pytest.approx(0, abs=1e-6)
    assert np.isnan(doubt[UNREAD])
    hotter = dataclasses.replace(score_map, temperature=4.0)
    assert np.nanmean(entropy(hotter)) > np.nanmean(doubt)
    change, differs = context_change(score_map)
    np.testing.assert_array_equal(
        change, score_map.probabilities - score_map.region_only_probabilities
    )
    expected = score_map.labels() != score_map.labels(region_only=True)
    np.testing.assert_array_equal(differs, expected & score_map.scored)


def test_telling_regions_do_not_touch(tmp_path: Path) -> None:
    score_map = make_asked(tmp_path).score_map
    values = np.arange(len(score_map), dtype=np.float32)
    values[UNREAD] = np.nan
    rows = most_telling(score_map, values, 6)
    assert rows[0] == SIDE * SIDE - 1
    assert len(rows) == 6
    assert values[rows].tolist() == sorted(values[rows], reverse=True)
    cells = score_map.cells[rows].astype(int)
    apart = np.abs(cells[:, None] - cells[None]).max(axis=2)
    assert (apart[~np.eye(6, dtype=bool)] >= 2).all()
    assert most_telling(score_map, values, 100, least=79.5) == [80]
    assert len(CLASSES) == score_map.logits.shape[1]
