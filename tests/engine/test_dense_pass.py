"""Events of dense and detection runs: order, cancelling, unreadable regions, memory."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.dense import draw_dots, write_dense_model
from support.slides import tissue_image, write_tiff_slide

from xt_backend import Backend, RegionsDecoded, RegionsScored, RunFinished, RunPlanned, RunSpec
from xt_backend.batch import Batch
from xt_backend.config import ScoreOptions
from xt_backend.engine import Event
from xt_backend.keys import RegionStatus
from xt_backend.slides import Reader


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("dense")
    return {
        task: write_dense_model(folder / f"{task}.safetensors", task)
        for task in ("dense", "detection")
    }


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All tissue, 64 regions; one dot in each quarter."""
    image = tissue_image(1024, 1024, ((0, 0, 1024, 1024),))
    image = draw_dots(image, [(x, y) for x in (300, 700) for y in (300, 700)], 7)
    return write_tiff_slide(tmp_path_factory.mktemp("slide") / "all.tiff", image)


def run(slide: Path, model: Path, **options: object) -> Iterator[Event]:
    with Backend() as backend:
        yield from backend.submit(RunSpec(slide=slide, model=str(model), **options))


@pytest.mark.parametrize("task", ["dense", "detection"])
def test_pixels_come_after_context_and_each_region_once(
    slide: Path, models: dict[str, Path], task: str
) -> None:
    events = list(run(slide, models[task]))
    planned, *between, last = events
    assert isinstance(planned, RunPlanned)
    assert isinstance(last, RunFinished)
    kinds = [type(event) for event in between]
    first = kinds.index(RegionsDecoded)
    assert set(kinds[:first]) == {RegionsScored}
    assert set(kinds[first:]) == {RegionsDecoded}
    final = between[first - 1]
    assert final.stage == "decode"
    np.testing.assert_array_equal(final.score_map.logits, last.score_map.logits)
    decoded = between[first:]
    cells = np.concatenate([event.cells for event in decoded])
    np.testing.assert_array_equal(cells, planned.score_map.cells)
    assert [event.done for event in decoded] == [16, 32, 48, 64]
    assert {event.total for event in decoded} == {64}
    assert decoded[0].stage == ("dense" if task == "dense" else "detect")
    assert not last.score_map.partial
    if task == "dense":
        assert last.points is None
        assert {event.masks.shape[1:] for event in decoded} == {(16, 16)}
        assert {event.masks.dtype for event in decoded} == {np.dtype(np.uint8)}
    else:
        assert last.points is not None
        assert len(last.points) == 4
        assert sum(len(event.points) for event in decoded) >= 4


@pytest.mark.parametrize("task", ["dense", "detection"])
def test_cancelling_while_decoding_keeps_the_scores_and_says_partial(
    slide: Path, models: dict[str, Path], task: str
) -> None:
    seen = 0
    with Backend() as backend:
        spec = RunSpec(slide=slide, model=str(models[task]))
        for event in backend.submit(spec):
            if isinstance(event, RegionsDecoded):
                seen += 1
                backend.cancel(spec.run_id)
    assert seen == 1
    assert isinstance(event, RunFinished)
    assert event.cancelled
    assert event.score_map.partial
    assert event.score_map.scored.all()
    assert np.isfinite(event.score_map.logits).all()
    assert (event.points is not None) == (task == "detection")


def test_a_cancelled_batch_leaves_no_mask_and_goes_on_later(
    slide: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    options = ScoreOptions(cache=tmp_path / "cache")
    stop = False

    def watch(task: object, event: Event) -> None:
        nonlocal stop
        stop = stop or isinstance(event, RegionsDecoded)

    done = Batch([slide], str(models["dense"]), out, options).run(watch, cancelled=lambda: stop)
    assert done.interrupted
    assert {path.name for path in out.iterdir()} == {
        "run.json", "local.json", "slides.csv", "ledger",
    }  # fmt: skip
    again = Batch([slide], str(models["dense"]), out, options).run()
    assert (out / "all.mask.ome.tiff").is_file()
    assert again.rows[0].encoded_regions == 0


def test_a_region_that_cannot_be_read_again_is_marked_and_has_no_mask(
    slide: Path, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (*_, whole) = run(slide, models["dense"], cache=tmp_path)
    batches = Reader._batches

    def spoilt(self: Reader) -> Iterator[object]:
        for batch in batches(self):
            batch.status[batch.rows == 20] = RegionStatus.READ_ERROR
            yield batch

    monkeypatch.setattr(Reader, "_batches", spoilt)
    *events, last = run(slide, models["dense"], cache=tmp_path)
    assert isinstance(last, RunFinished)
    assert last.encoded_regions == 0
    assert np.flatnonzero(last.score_map.status == RegionStatus.READ_ERROR).tolist() == [20]
    assert np.isnan(last.score_map.logits[20]).all()
    others = np.arange(64) != 20
    np.testing.assert_array_equal(last.score_map.logits[others], whole.score_map.logits[others])
    decoded = [event for event in events if isinstance(event, RegionsDecoded)]
    cells = np.concatenate([event.cells for event in decoded]).tolist()
    assert last.score_map.cells[20].tolist() not in cells
    assert len(cells) == 63
    assert decoded[-1].done == 64


def test_masks_are_handed_on_and_not_kept(slide: Path, models: dict[str, Path]) -> None:
    seen: list[weakref.ref[np.ndarray]] = []
    for event in run(slide, models["dense"], batch_size=4):
        if isinstance(event, RegionsDecoded):
            assert event.masks is not None
            assert len(event.masks) == 4
            seen.append(weakref.ref(event.masks))
            assert sum(one() is not None for one in seen) == 1
    assert len(seen) == 16


def test_overlapping_regions_find_each_dot_once(slide: Path, models: dict[str, Path]) -> None:
    (*_, last) = run(slide, models["detection"], stride_px=24)
    assert isinstance(last, RunFinished)
    assert last.points is not None
    places = np.sort(np.round(last.points.x_px / 100)).tolist()
    assert places == [3, 3, 7, 7]
