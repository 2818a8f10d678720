"""Which way to encode is taken: faithful, fast, remembered, and never at the cost of a run."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import platformdirs
import pytest

import xt_backend as xt
from xt_backend.engine import BatchEncoder, Device
from xt_backend.engine.encoders import (
    Done,
    EncoderChoice,
    Way,
    choose,
    choose_way,
    failure_words,
    known_choice,
    probe,
)
from xt_backend.engine.encoders import choice as kept_choices
from xt_backend.engine.encoders.openvino_cpu import BATCH, OpenVinoBackend
from xt_backend.engine.encoders.plain import TorchBackend
from xt_backend.errors import DeviceError, ModelError, OutputConflictError

CPU = Device("cpu", "fp32", "test")
TORCH, EXACT, HALF = Way("torch", "fp32"), Way("openvino", "fp32"), Way("openvino", "bf16")


class Clock:
    """Goes on when it is told to: how busy the machine is decides no choice here."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """By which ways to encode are timed."""
    found = Clock()
    monkeypatch.setattr("xt_backend.engine.encoders.probing.time", found)
    return found


class FakeBackend:
    """Channel means, with an error and a duration by a clock."""

    name, batch, ahead = "fake", 8, 0

    def __init__(self, error: float, seconds: float) -> None:
        self.precision = "fp32"
        self.clock = Clock()
        self._error, self._seconds = error, seconds

    def numerics(self) -> dict[str, Any]:
        return {}

    def prepare(self) -> None: ...

    def start(self, pixels: np.ndarray[Any, Any]) -> Done:
        self.clock.now += self._seconds
        means = pixels.mean((1, 2))[:, None]
        noise = np.random.default_rng(0).normal(0, 1, means.shape)
        return Done((means * (1 + self._error * noise)).astype(np.float16))


@pytest.fixture
def backends(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> dict[Way, Any]:
    """What `make_backend` gives for each way; an exception is raised."""
    known: dict[Way, Any] = {TORCH: FakeBackend(0, 0.02)}

    def make(net: object, device: Device, way: Way, folder: Path | None) -> Any:
        found = known[way]
        if isinstance(found, Exception):
            raise found
        found.clock = clock
        return found

    monkeypatch.setattr("xt_backend.engine.encoders.probing.make_backend", make)
    return known


@pytest.fixture
def pixels() -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(0)
    return np.repeat(rng.integers(0, 256, (32, 1, 1, 3), np.uint8), 4, axis=1).repeat(4, axis=2)


def judge(features: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return features[:, 0].astype(np.float32)


def test_the_fastest_faithful_way_is_taken(backends: dict[Way, Any], pixels: Any) -> None:
    backends |= {EXACT: FakeBackend(0.001, 0.005), HALF: FakeBackend(0.5, 0.001)}
    choice = probe(None, CPU, [TORCH, EXACT, HALF], pixels, judge)  # type: ignore[arg-type]
    assert choice.way == EXACT
    assert "4.0 times as fast" in choice.reason
    assert choice.trial is not None
    assert 0 < choice.trial.error < 0.05
    (unfaithful,) = (one for one in choice.tried if one.way == HALF)
    assert "off by" in unfaithful.problem
    assert unfaithful.regions_per_s is None
    assert EncoderChoice.from_dict(json.loads(json.dumps(choice.to_dict()))) == choice


def test_classes_count_as_well_as_features(backends: dict[Way, Any], pixels: Any) -> None:
    backends[EXACT] = FakeBackend(0.01, 0.001)

    def hair_trigger(features: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return (features.view(np.uint16)[:, 0, :2] % 2).astype(np.float32)

    choice = probe(None, CPU, [TORCH, EXACT], pixels, hair_trigger)  # type: ignore[arg-type]
    assert choice.way == TORCH
    assert "keep their class" in choice.reason


@pytest.mark.parametrize(
    "other", [RuntimeError("no such instruction"), ImportError("libtbb"), FakeBackend(0, 0.02)]
)
def test_what_is_broken_or_no_faster_is_not_taken(
    other: Any, backends: dict[Way, Any], pixels: Any
) -> None:
    backends[EXACT] = other
    choice = probe(None, CPU, [TORCH, EXACT], pixels)  # type: ignore[arg-type]
    assert choice.way == TORCH
    (trial,) = (one for one in choice.tried if one.way == EXACT)
    assert bool(trial.problem) == isinstance(other, Exception)


@pytest.fixture(autouse=True)
def _forgetful(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "_has_openvino", lambda: True)
    monkeypatch.setattr(choose, "_computes_bf16", lambda: False)
    monkeypatch.setattr(choose, "openvino_precisions", lambda: ("fp32", "bf16"))


def ask(
    pixels: Any,
    n_regions: int = 5000,
    what: str = "model",
    asked: str = "auto",
    sample: Callable[[int], Any] | None = None,
) -> Any:
    return choose_way(
        None,  # type: ignore[arg-type]
        {"model": what},
        CPU,
        asked,
        "auto",
        n_regions=n_regions,
        sample=sample or (lambda n: pixels[:n]),
    )


@pytest.mark.usefixtures("installed")
def test_a_choice_is_remembered_for_this_model_only(backends: dict[Way, Any], pixels: Any) -> None:
    backends |= {EXACT: FakeBackend(0, 0.002), HALF: FakeBackend(0.5, 0.001)}
    assert known_choice({"model": "model"}, CPU, "auto", "auto") is None
    chosen = ask(pixels)
    assert chosen.way == EXACT
    backends.clear()  # nothing can be tried any more
    assert ask(pixels) == chosen
    assert ask(pixels, n_regions=1) == chosen
    assert ask(pixels, n_regions=999, what="another").way == TORCH
    assert "KeyError" in ask(pixels, what="another").reason  # that was tried anew
    folder = Path(platformdirs.user_config_dir("napari-xt", appauthor=False)) / "encoders"
    (kept,) = folder.iterdir()
    kept.write_text("{")
    assert known_choice({"model": "model"}, CPU, "auto", "auto") is None


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("changed", ["torch", "timm", "openvino"])
def test_a_choice_does_not_outlive_the_libraries_it_was_made_with(
    backends: dict[Way, Any], pixels: Any, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    backends |= {EXACT: FakeBackend(0, 0.002), HALF: FakeBackend(0.5, 0.001)}
    chosen, known = ask(pixels), kept_choices.version
    assert known_choice({"model": "model"}, CPU, "auto", "auto") == chosen
    monkeypatch.setattr(
        kept_choices, "version", lambda name: "99.0" if name == changed else known(name)
    )
    assert known_choice({"model": "model"}, CPU, "auto", "auto") is None


@pytest.mark.usefixtures("installed")
def test_few_regions_are_not_worth_a_choice(backends: dict[Way, Any], pixels: Any) -> None:
    backends.clear()
    assert ask(pixels, n_regions=999).way == TORCH
    assert ask(pixels[:5]).way == TORCH
    assert known_choice({"model": "model"}, CPU, "auto", "auto") is None


@pytest.mark.usefixtures("installed")
def test_what_is_asked_for_is_tried_on_few_regions_of_many(
    backends: dict[Way, Any], pixels: Any
) -> None:
    backends |= {EXACT: FakeBackend(0, 0.002), HALF: FakeBackend(0.5, 0.001)}
    assert ask(pixels[:1], asked="openvino").way == TORCH  # alone it differs from nothing
    assert ask(pixels[:2], asked="openvino").way == EXACT


@pytest.mark.usefixtures("installed", "backends")
def test_what_is_odd_about_a_slide_is_not_the_end(pixels: Any) -> None:
    def odd(n: int) -> Any:
        raise ValueError(f"no {n} regions in a slide like this")

    found = ask(pixels, sample=odd)
    assert found.way == TORCH
    assert "ValueError" in found.reason


@pytest.mark.usefixtures("installed")
def test_what_is_wrong_with_the_model_is_told(backends: dict[Way, Any], pixels: Any) -> None:
    backends[TORCH] = ModelError("The weights do not fit")
    with pytest.raises(ModelError, match="do not fit"):
        ask(pixels)


def test_without_the_extra_it_is_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "_has_openvino", lambda: False)
    found = known_choice({}, CPU, "auto", "auto")
    assert found is not None
    assert found.way == TORCH
    assert "not installed" in found.reason
    with pytest.raises(DeviceError, match=r"napari-xt\[cpu\]"):
        known_choice({}, CPU, "openvino", "auto")


def test_a_backend_for_another_device_is_refused() -> None:
    cuda = Device("cuda:0", "fp16", "test")
    with pytest.raises(DeviceError, match="--device cpu"):
        known_choice({}, cuda, "openvino", "auto")
    with pytest.raises(DeviceError, match="CUDA"):
        known_choice({}, CPU, "torch-compile", "auto")
    found = known_choice({}, cuda, "torch-compile", "auto")
    assert found is not None
    assert found.way == Way("torch-compile", "fp16")


def test_a_precision_that_openvino_only_imitates_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    low = Device("cpu", "bf16", "test")
    monkeypatch.setattr(choose, "_has_openvino", lambda: True)
    monkeypatch.setattr(choose, "openvino_precisions", lambda: ("fp32",))
    assert known_choice({}, CPU, "openvino", "auto") is None  # to be tried
    with pytest.raises(DeviceError, match=r"bf16 on this processor.*torch"):
        known_choice({}, low, "openvino", "bf16")
    monkeypatch.setattr(choose, "openvino_precisions", lambda: ("fp32", "bf16"))
    assert known_choice({}, low, "openvino", "bf16") is None


def test_what_a_run_tells_holds_the_batch_and_is_the_same_way() -> None:
    numerics = {"backend": "openvino-cpu", "backend_version": "1.0", "batch": 2}
    backend: Any = SimpleNamespace(numerics=lambda: numerics)
    net: Any = None
    told = BatchEncoder(net, CPU, EXACT, backend=backend).told()["encoder"]
    assert (told["batch"], told["backend_version"]) == (2, "1.0")
    assert Way.from_dict(told) == EXACT
    large = Way("torch", "fp16", 128)
    assert Way.from_dict(large.to_dict()) == large


# --- whole runs --------------------------------------------------------------------------------


def logits(run: Any) -> np.ndarray[Any, Any]:
    return run.score_map("block").logits


def take_seconds(backend: Any, seconds: float, clock: Clock, patch: pytest.MonkeyPatch) -> None:
    """Let each batch of a real backend take so long by a clock."""
    start = backend.start

    def timed(one: Any, pixels: Any) -> Any:
        clock.now += seconds
        return start(one, pixels)

    patch.setattr(backend, "start", timed)


def test_openvino_scores_as_torch_does_and_resumes(
    tissue_slide: Path,
    tiny_model: Path,
    tmp_path: Path,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("the extra cpu is not installed")
    take_seconds(TorchBackend, 1.0, clock, monkeypatch)
    take_seconds(OpenVinoBackend, 0.01, clock, monkeypatch)
    plain = xt.score(tissue_slide, str(tiny_model), tmp_path / "torch")
    fast = xt.score(tissue_slide, str(tiny_model), tmp_path / "fast", encoder_backend="openvino")
    assert plain.rows[0].cache == fast.rows[0].cache == "miss"  # each has a store of its own
    np.testing.assert_allclose(logits(fast), logits(plain), atol=0.02)
    said = json.loads((tmp_path / "fast" / "run.json").read_text())
    tried = {one["way"]["backend"] for one in said["encoder"]["tried"]}
    assert tried == {"torch", "openvino"}
    # How fast each is was made up above; how faithful is what it really computes.
    assert said["encoder"]["way"] == EXACT.to_dict()
    assert said["configuration"]["encoder"]["batch"] == BATCH
    assert said["configuration"]["encoder"]["backend_version"]
    assert said["seconds"]["total"] > said["seconds"]["encode"] > 0
    assert said["seconds"]["probe"] > 0
    before = (tmp_path / "fast" / "block.run.h5").read_bytes()
    again = xt.score(tissue_slide, str(tiny_model), tmp_path / "fast")
    assert (tmp_path / "fast" / "block.run.h5").read_bytes() == before
    assert again.rows[0].cache == "hit"
    with pytest.raises(OutputConflictError, match="encoder"):
        xt.score(tissue_slide, str(tiny_model), tmp_path / "fast", encoder_backend="torch")


def test_a_broken_extra_changes_nothing_but_is_told(
    tissue_slide: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = xt.score(tissue_slide, str(tiny_model), tmp_path / "torch", use_cache=False)

    def broken() -> Any:
        raise RuntimeError("undefined symbol")

    monkeypatch.setattr(choose, "_has_openvino", lambda: True)
    monkeypatch.setattr("xt_backend.engine.encoders.openvino_cpu.load_openvino", broken)
    run = xt.score(
        tissue_slide,
        str(tiny_model),
        tmp_path / "broken",
        encoder_backend="openvino",
        use_cache=False,
    )
    assert run.exit_code == 0
    assert logits(run).tobytes() == logits(plain).tobytes()
    said = json.loads((tmp_path / "broken" / "run.json").read_text())["encoder"]
    assert said["way"]["backend"] == "torch"
    assert "broken" in said["reason"]


def test_why_a_backend_fails_is_told_without_its_text() -> None:
    """It may name folders, and so patients; the log has it."""
    folder = "/home/alice/PATIENT-MUELLER/.tmp/model.xml"
    for error in (OSError(28, "No space left on device", folder), RuntimeError(f"no {folder}")):
        words = failure_words(error)
        assert "alice" not in words
        assert type(error).__name__ in words
    assert "No space left" in failure_words(OSError(28, "No space left on device", folder))
