"""All slides of a batch are encoded in one way, with one encoder, or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.slides import write_tissue_slide

from xt_backend import RunFinished, RunPlanned, RunSpec
from xt_backend.batch import Batch, FeatureBatch
from xt_backend.config import FeatureOptions, ScoreOptions
from xt_backend.engine import Device, EncoderChoice, Engine, Way
from xt_backend.engine import prepare as prepare_slide
from xt_backend.engine.encoders import Done
from xt_backend.engine.encoders.plain import TorchBackend
from xt_backend.engine.encoding import sample_regions
from xt_backend.engine.loaded import Loaded
from xt_backend.errors import DeviceError, ModelError, OutputConflictError
from xt_backend.store import RegionStore

WAY = Way("openvino", "fp32")
CHOICE = EncoderChoice(WAY, "measured long ago")


class Other(TorchBackend):
    """Stands for a library that may be installed in another version, or break."""

    def __init__(self, region_encoder: Any, device: Device, library: Library) -> None:
        super().__init__(region_encoder, device)
        self.name = "other-cpu"
        self._library, self._version = library, library.version

    def numerics(self) -> dict[str, Any]:
        return {**super().numerics(), "backend_version": self._version}

    def prepare(self) -> None:
        self._library.n_prepared += 1
        if self._library.n_prepared > self._library.good_for:
            raise OSError(5, "Input/output error", "/home/alice/libother.so")
        super().prepare()

    def start(self, pixels: Any) -> Done:
        self._library.n_started += 1
        if self._library.n_started == self._library.breaks_at:
            raise RuntimeError("/home/alice/libother.so: illegal instruction")
        return super().start(pixels)


class Library:
    """What `Other` is made of; tests break it."""

    def __init__(self) -> None:
        self.installed, self.version = True, "1.0"
        self.made: list[Other] = []
        self.n_prepared, self.good_for = 0, 1000
        self.n_started, self.breaks_at = 0, 0

    def make(self, net: Any, device: Device, way: Way, folder: Path | None) -> Any:
        if way != WAY:
            return TorchBackend(net, device)
        if not self.installed:
            raise ModuleNotFoundError("other")
        self.made.append(Other(net, device, self))
        return self.made[-1]


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    """Encoders were found to be best computed by it."""
    found = Library()
    monkeypatch.setattr("xt_backend.engine.encoder.make_backend", found.make)
    monkeypatch.setattr("xt_backend.engine.encoders.choose._has_openvino", lambda: True)
    monkeypatch.setattr("xt_backend.batch.encoding.known_choice", lambda *args: CHOICE)
    monkeypatch.setattr("xt_backend.engine.run.settle_encoder", lambda *args: CHOICE)
    return found


@pytest.fixture
def slides(tmp_path: Path) -> list[Path]:
    (tmp_path / "slides").mkdir()
    return [
        write_tissue_slide(tmp_path / "slides" / f"{name}.tiff", side=576 - 64 * number)
        for number, name in enumerate("ab")
    ]


def prepare(slides: list[Path], model: Path, out: Path | None, **options: Any) -> Batch:
    return Batch(slides, str(model), out, ScoreOptions(use_cache=False, **options))


def configuration(out: Path) -> Any:
    return json.loads((out / "run.json").read_text(encoding="utf-8"))["configuration"]


def test_an_encoder_is_made_once_for_a_batch(
    slides: list[Path], tiny_model: Path, tmp_path: Path, library: Library
) -> None:
    run = prepare(slides, tiny_model, tmp_path / "run").run()
    assert [row.status for row in run.rows] == ["done", "done"]
    assert len(library.made) == 1
    assert configuration(tmp_path / "run")["encoder"] == {
        **WAY.to_dict(), "backend_version": "1.0",
    }  # fmt: skip


def test_its_seconds_are_told_of_each_slide(
    slides: list[Path], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoders: set[Any] = set()
    kept = Loaded.give_back
    monkeypatch.setattr(
        Loaded, "give_back", lambda loaded, encoder: (encoders.add(encoder), kept(loaded, encoder))
    )
    run = prepare(slides, tiny_model, None).run()
    (encoder,) = encoders
    told = sum(row.seconds_encode or 0 for row in run.rows)
    assert told == pytest.approx(encoder.seconds, abs=0.02)
    assert encoder.n_encoded == sum(row.encoded_regions or 0 for row in run.rows)


def test_what_is_closed_before_a_batch_begins_gives_way_to_torch(
    slides: list[Path],
    tiny_model: Path,
    tmp_path: Path,
    library: Library,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("xt_backend.batch.encoding.known_choice", lambda *args: None)
    monkeypatch.setattr("xt_backend.batch.encoding.settle_encoder", lambda *args: CHOICE)
    library.good_for = 0
    batch = prepare(slides, tiny_model, tmp_path / "run", encoder_backend="openvino")
    assert batch.choice.way == Way("torch", "fp32")
    assert "cannot be used now: OSError: Input/output error" in batch.choice.reason
    assert "alice" not in batch.choice.reason
    run = batch.run()
    assert [row.status for row in run.rows] == ["done", "done"]
    assert "encoder" not in configuration(tmp_path / "run")


def test_what_breaks_later_fails_slides_and_is_never_mixed(
    slides: list[Path], tiny_model: Path, tmp_path: Path, library: Library
) -> None:
    library.good_for = 1  # for the first slide
    run = prepare(slides, tiny_model, tmp_path / "run").run()
    assert [row.status for row in run.rows] == ["done", "failed"]
    assert "openvino fp32 cannot be used now" in run.rows[1].reason
    assert "another folder" in run.rows[1].reason
    library.good_for = 1000
    again = prepare(slides, tiny_model, tmp_path / "run").run()
    assert [(row.status, row.encoded_regions) for row in again.rows] == [("done", 0), ("done", 4)]


def test_what_breaks_while_it_computes_fails_its_slide_only(
    slides: list[Path], tiny_model: Path, tmp_path: Path, library: Library
) -> None:
    library.breaks_at = 1
    run = prepare(slides, tiny_model, tmp_path / "run").run()
    assert [row.status for row in run.rows] == ["failed", "done"]
    assert "openvino fp32 cannot be used now" in run.rows[0].reason
    assert "--encoder-backend torch and another folder" in run.rows[0].reason
    assert "alice" not in run.rows[0].reason
    said = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert said["encoder"]["way"] == WAY.to_dict()
    assert len(library.made) == 2  # the one that broke is not used again


def test_what_breaks_in_a_batch_of_features_fails_its_slide_only(
    slides: list[Path], tmp_path: Path, library: Library
) -> None:
    library.breaks_at = 1
    options = FeatureOptions(weights="random", model_mpp=1.0, region_px=64, use_cache=False)
    batch = FeatureBatch(slides, "tf_efficientnet_lite0", tmp_path / "run", options)
    run = batch.run()
    assert [row.status for row in run.rows] == ["failed", "done"]
    assert "openvino fp32 cannot be used now" in run.rows[0].reason
    assert len(library.made) == 1


def test_a_run_goes_on_with_its_backend_or_not_at_all(
    slides: list[Path],
    tiny_model: Path,
    tmp_path: Path,
    library: Library,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "run"
    prepare(slides, tiny_model, out)
    prepare(slides, tiny_model, out).run()
    # Another choice now, by what was measured meanwhile, changes nothing.
    usual = EncoderChoice(Way("torch", "fp32"), "found to be faster")
    monkeypatch.setattr("xt_backend.batch.encoding.known_choice", lambda *args: usual)
    for asked in ("auto", "openvino"):
        assert prepare(slides, tiny_model, out, encoder_backend=asked).choice.way == WAY
    library.installed = False
    with pytest.raises(DeviceError, match=r"began with openvino fp32 .* not installed") as refused:
        prepare(slides, tiny_model, out)
    assert refused.value.way_out.count("another folder") == 1
    monkeypatch.setattr("xt_backend.engine.encoders.choose._has_openvino", lambda: False)
    with pytest.raises(DeviceError, match=r"napari-xt\[cpu\].*another folder"):
        prepare(slides, tiny_model, out)


@pytest.mark.parametrize("command", ["score", "features"])
def test_another_version_of_a_backend_is_another_run(
    command: str, slides: list[Path], tiny_model: Path, tmp_path: Path, library: Library
) -> None:
    def begin() -> None:
        if command == "score":
            prepare(slides[:1], tiny_model, tmp_path / "run").run()
            return
        options = FeatureOptions(weights="random", model_mpp=1.0, region_px=64, use_cache=False)
        FeatureBatch(slides[:1], "tf_efficientnet_lite0", tmp_path / "run", options).run()

    begin()
    library.version = "2.0"
    with pytest.raises(OutputConflictError, match=r"backend_version is '1\.0' there"):
        begin()


def test_a_batch_of_stored_features_opens_no_encoder(
    slides: list[Path], tiny_model: Path, tmp_path: Path, library: Library
) -> None:
    options = ScoreOptions(cache=tmp_path / "cache")
    for out, n_prepared in ((tmp_path / "run", 2), (tmp_path / "run", 2), (tmp_path / "other", 2)):
        run = Batch(slides, str(tiny_model), out, options).run()
        assert [row.status for row in run.rows] == ["done", "done"]
        assert library.n_prepared == n_prepared


def test_a_dry_run_prepares_nothing(
    slides: list[Path], tiny_model: Path, tmp_path: Path, library: Library
) -> None:
    out = tmp_path / "run"
    batch = Batch(slides, str(tiny_model), out, ScoreOptions(), dry_run=True)
    for task in batch.tasks:
        assert isinstance(next(batch.events(task)), RunPlanned)
    assert library.n_prepared == 0


def test_an_odd_slide_does_not_end_a_batch_before_it_begins(
    slides: list[Path], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd(*args: object) -> Any:
        raise ZeroDivisionError("a slide like no other")

    monkeypatch.setattr("xt_backend.batch.encoding.known_choice", lambda *args: None)
    monkeypatch.setattr("xt_backend.batch.encoding.prepare", odd)
    batch = prepare(slides, tiny_model, None, encoder_backend="openvino")
    assert "no slide could be read" in batch.choice.reason
    assert [row.status for row in batch.run().rows] == ["done", "done"]


def test_the_next_slide_is_tried_where_one_is_odd(
    slides: list[Path], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def sample(prepared: Any, n: int, workers: int) -> Any:
        tried.append(prepared.slide.info.name)
        if len(tried) == 1:
            raise ValueError("regions like no other")
        return sample_regions(prepared, n, workers)

    library = Library()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr("xt_backend.engine.encoding.sample_regions", sample)
    for maker in ("encoder", "encoders.probing"):
        monkeypatch.setattr(f"xt_backend.engine.{maker}.make_backend", library.make)
    choose = "xt_backend.engine.encoders.choose."
    monkeypatch.setattr(choose + "_has_openvino", lambda: True)
    monkeypatch.setattr(choose + "openvino_precisions", lambda: ("fp32",))
    batch = prepare(slides, tiny_model, None, encoder_backend="openvino")
    assert tried == [slide.name for slide in slides]
    assert {one.way for one in batch.choice.tried} == {WAY, Way("torch", "fp32")}


def test_what_is_broken_is_the_reason_though_a_later_slide_is_odd(
    slides: list[Path], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []

    def odd_later(path: Path, *args: Any) -> Any:
        seen.append(path)
        if len(seen) > 1:
            raise ZeroDivisionError("a slide like no other")
        return prepare_slide(path, *args)

    broken = EncoderChoice(Way("torch", "fp32"), "OpenVINO is broken")
    monkeypatch.setattr("xt_backend.batch.encoding.known_choice", lambda *args: None)
    monkeypatch.setattr("xt_backend.batch.encoding.settle_encoder", lambda *args: broken)
    monkeypatch.setattr("xt_backend.batch.encoding.prepare", odd_later)
    batch = prepare(slides, tiny_model, None, encoder_backend="openvino")
    assert len(seen) == 2
    assert batch.choice.reason == "OpenVINO is broken"


@pytest.mark.parametrize("place", ["prepare", "settle_encoder"])
@pytest.mark.parametrize("error", [ModelError("It does not fit"), DeviceError("It does not fit")])
def test_a_model_or_device_that_is_wrong_does(
    place: str,
    error: Exception,
    slides: list[Path],
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def wrong(*args: object) -> Any:
        raise error

    monkeypatch.setattr("xt_backend.engine.encoders.choose._has_openvino", lambda: True)
    monkeypatch.setattr("xt_backend.batch.encoding.known_choice", lambda *args: None)
    monkeypatch.setattr(f"xt_backend.batch.encoding.{place}", wrong)
    with pytest.raises(type(error), match="does not fit"):
        prepare(slides, tiny_model, None, encoder_backend="openvino")


# --- one slide after another, as in the window -------------------------------------------------


def test_a_single_run_goes_on_with_torch_and_says_so(
    slides: list[Path], tiny_model: Path, library: Library
) -> None:
    library.good_for = 0
    spec = RunSpec(slide=slides[0], model=str(tiny_model), use_cache=False)
    planned, *_, last = Engine().run(spec)
    assert isinstance(planned, RunPlanned)
    assert "cannot be used now" in planned.encoder
    assert isinstance(last, RunFinished)
    assert last.encoder["way"]["backend"] == "torch"
    assert np.isfinite(last.score_map.logits).all()


def test_a_run_keeps_its_encoder_for_the_next_one(
    slides: list[Path], tiny_model: Path, library: Library
) -> None:
    engine = Engine()
    for slide in slides:
        spec = RunSpec(slide=slide, model=str(tiny_model), use_cache=False)
        *_, last = engine.run(spec)
        assert isinstance(last, RunFinished)
    assert len(library.made) == 1
    events = [
        engine.run(RunSpec(slide=slide, model=str(tiny_model), use_cache=False)) for slide in slides
    ]
    for run in events:  # both are under way, each with an encoder of its own
        assert isinstance(next(run), RunPlanned)
    assert len(library.made) == 2


def test_damage_of_a_store_is_told_and_looked_for_once(
    slides: list[Path],
    tiny_model: Path,
    tmp_path: Path,
    library: Library,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = RunSpec(slide=slides[0], model=str(tiny_model), cache=tmp_path / "cache")
    *_, _last = Engine().run(spec)
    (shard,) = (tmp_path / "cache").glob("*/*/*.h5")
    shard.write_bytes(b"")
    opened: list[Any] = []
    open_store = RegionStore.open
    monkeypatch.setattr(RegionStore, "open", lambda *args: opened.append(args) or open_store(*args))
    planned, *_, last = Engine().run(spec)
    assert isinstance(planned, RunPlanned)
    assert any("moved aside" in note for note in planned.notes)
    assert isinstance(last, RunFinished)
    assert len(last.problems) == 1
    assert last.encoded_regions == len(last.score_map)
    assert sum("encoder" in key.numerics for _, key in opened) == 1
    assert library.made


def test_damage_is_told_even_if_torch_takes_over(
    slides: list[Path], tiny_model: Path, tmp_path: Path, library: Library
) -> None:
    spec = RunSpec(slide=slides[0], model=str(tiny_model), cache=tmp_path / "cache")
    *_, _last = Engine().run(spec)
    (shard,) = (tmp_path / "cache").glob("*/*/*.h5")
    shard.write_bytes(b"")
    library.good_for = 0
    planned, *_, last = Engine().run(spec)
    assert isinstance(planned, RunPlanned)
    assert any("moved aside" in note for note in planned.notes)
    assert isinstance(last, RunFinished)
    assert last.encoder["way"]["backend"] == "torch"
    assert len(last.problems) == 1
