"""Encoder backends: each gives torch's features, in any company, however many are in flight."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from xt_backend.engine import BatchEncoder, Device
from xt_backend.engine.encoders import Way, make_backend, openvino_model
from xt_backend.engine.encoders.cuda import CudaBackend, Driver
from xt_backend.engine.encoders.openvino_cpu import _Request
from xt_backend.engine.encoders.openvino_model import _telling_nobody, load_openvino
from xt_backend.engine.encoders.plain import TorchBackend
from xt_backend.engine.encoders.probing import run_through
from xt_backend.errors import OutOfMemoryError
from xt_backend.model import RegionEncoder, build_region_encoder

CPU = Device("cpu", "fp32", "test")
SIDE = 64


def regions(n: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (n, SIDE, SIDE, 3), np.uint8)


@pytest.fixture(scope="module")
def net() -> RegionEncoder:
    return build_region_encoder("convnext_atto", region_px=SIDE, weights="random")


class FakeEvent:
    """Tells of waiting only where there is something to wait for, as CUDA only waits there."""

    def __init__(self, log: list[str]) -> None:
        self._log, self._recorded = log, False

    def record(self) -> None:
        self._log.append("record")
        self._recorded = True

    def synchronize(self) -> None:
        if self._recorded:
            self._log.append("synchronize")
            self._recorded = False


class FakeDriver(Driver):
    """CUDA's part played by the host; keeps what was asked for."""

    log: list[str]

    def __init__(self, name: str) -> None:
        self.log = []

    def using(self) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext()

    def pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        self.log.append(f"pinned {shape[0]}")
        return torch.zeros(shape, dtype=dtype)

    def on_device(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        return torch.zeros(shape, dtype=dtype)

    @contextlib.contextmanager
    def copying(self) -> Iterator[None]:
        self.log.append("copy")
        yield

    def event(self) -> Any:
        return FakeEvent(self.log)

    def compute_after(self, event: Any) -> None:
        self.log.append("compute")

    def copy_after_all(self) -> None:
        self.log.append("settle")


def cuda(net: Any, **options: Any) -> CudaBackend:
    return CudaBackend(net, CPU, driver=FakeDriver, **options)


def log_of(backend: CudaBackend) -> list[str]:
    driver = backend._driver
    assert isinstance(driver, FakeDriver)
    return driver.log


def test_the_next_batch_is_copied_before_the_last_is_waited_for(net: RegionEncoder) -> None:
    backend = cuda(net)
    pixels = regions(20)
    np.testing.assert_array_equal(
        run_through(backend, pixels), run_through(TorchBackend(net, CPU), pixels)
    )
    log = log_of(backend)
    copies = [place for place, what in enumerate(log) if what == "copy"]
    waits = [place for place, what in enumerate(log) if what == "synchronize"]
    assert len(copies) == len(waits) == 3
    assert copies[1] < waits[0] < copies[2] < waits[1]
    # Two slots with a buffer each for pixels and tokens, whatever the number of batches.
    assert log.count("pinned 8") == 4
    # What the buffers' memory held before is not written over while it is still being read.
    assert log.count("settle") == 1
    assert log.index("settle") < log.index("copy")


def test_a_slot_is_not_filled_again_before_its_result_was_taken(net: RegionEncoder) -> None:
    backend = cuda(net, batch=2)
    parts = [regions(2, seed) for seed in range(5)]
    pending = [backend.start(part) for part in parts]  # more than there are slots
    found = [one.result() for one in pending]
    plain = TorchBackend(net, CPU)
    for part, one in zip(parts, found, strict=True):
        np.testing.assert_allclose(one, plain.start(part).result(), atol=2e-3)
    assert backend.numerics()["batch"] == 2
    assert "batch" not in cuda(net).numerics()


class Hungry(torch.nn.Module):
    tokens_per_region, dim = 1, 3

    def __init__(self, limit: int, error: Exception | None = None) -> None:
        super().__init__()
        self.limit, self.full = limit, True
        self.error = error or torch.OutOfMemoryError("out of memory")
        self.batches: list[int] = []

    def ready(self) -> Hungry:
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(images))
        if self.full and len(images) > self.limit:
            raise self.error
        return images.float().mean((2, 3))[:, None]


def test_out_of_memory_halves_only_the_failing_batch() -> None:
    hungry = Hungry(4)
    backend = cuda(hungry)
    pixels = regions(24)
    first = backend.start(pixels[:8]).result()
    hungry.full = False
    rest = [backend.start(pixels[start : start + 8]).result() for start in (8, 16)]
    assert hungry.batches == [8, 4, 4, 8, 8]
    np.testing.assert_array_equal(
        np.concatenate([first, *rest]), run_through(cuda(Hungry(99)), pixels)
    )
    with pytest.raises(OutOfMemoryError, match="--device cpu"):
        cuda(Hungry(0)).start(pixels[:1])


def test_buffers_of_a_batch_that_failed_are_waited_for_too() -> None:
    """Its copy, and halves of it that fitted, may still be under way when they are next filled."""
    hungry = Hungry(0)
    backend = cuda(hungry)
    with pytest.raises(OutOfMemoryError):
        backend.start(regions(8))
    hungry.full = False
    waits = []
    for _ in range(2):  # the other buffers, then those of the batch that failed
        backend.start(regions(8))
        waits.append(log_of(backend).count("synchronize"))
    assert waits == [0, 1]


def test_the_host_sleeps_while_it_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(torch.cuda, "Stream", lambda *args, **options: None)
    monkeypatch.setattr(torch.cuda, "Event", lambda **options: asked.append(options))
    Driver("cuda:0").event()
    assert asked == [{"blocking": True}]


def test_copies_wait_for_what_was_asked_for_before(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[str] = []
    copies = types.SimpleNamespace(wait_stream=waited.append)
    monkeypatch.setattr(torch.cuda, "Stream", lambda *args: copies)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda name: f"stream of {name}")
    Driver("cuda:1").copy_after_all()
    assert waited == ["stream of cuda:1"]


class FakeApple(Device):
    """An Apple GPU whose part the CPU plays."""

    @property
    def kind(self) -> str:
        return "mps"


def test_on_an_apple_gpu_batches_are_padded_to_one_size_and_halved(net: RegionEncoder) -> None:
    apple = FakeApple("cpu", "fp32", "test")
    hungry = Hungry(99)
    backend = make_backend(cast("RegionEncoder", hungry), apple, Way("torch", "fp32"), None)
    assert (backend.name, backend.batch, backend.ahead) == ("torch-mps", 32, 0)
    assert backend.numerics() == {"backend": "torch-mps", "precision": "fp32"}
    pixels = regions(40)
    whole = run_through(backend, pixels)
    assert hungry.batches == [32, 32]
    full = RuntimeError("MPS backend out of memory (MPS allocated: 8 GB, max allowed: 9 GB)")
    short = Hungry(8, full)
    halved = make_backend(cast("RegionEncoder", short), apple, Way("torch", "fp32"), None)
    np.testing.assert_array_equal(run_through(halved, pixels[:32]), whole[:32])
    assert short.batches == [32, 16, 8, 8, 16, 8, 8]
    mine = run_through(make_backend(net, apple, Way("torch", "fp32"), None), pixels[:9])
    theirs = run_through(TorchBackend(net, CPU), pixels[:9])
    np.testing.assert_allclose(mine, theirs, atol=2e-3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("converted")


@pytest.fixture
def openvino(net: RegionEncoder, folder: Path) -> Any:
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("the extra cpu is not installed")
    return make_backend(net, CPU, Way("openvino", "fp32"), folder)


def test_openvino_gives_the_features_of_torch(net: RegionEncoder, openvino: Any) -> None:
    pixels = regions(20)
    wanted = run_through(TorchBackend(net, CPU), pixels).astype(float)
    found = run_through(openvino, pixels).astype(float)
    assert found.shape == wanted.shape
    spread = np.linalg.norm(wanted - wanted.mean(axis=0))
    assert np.linalg.norm(found - wanted) < 0.005 * spread
    numerics = openvino.numerics()
    assert (numerics["backend"], numerics["precision"]) == ("openvino-cpu", "fp32")
    assert numerics["backend_version"]


@pytest.mark.usefixtures("openvino")
def test_openvino_gives_the_same_bytes_in_any_company(net: RegionEncoder, folder: Path) -> None:
    encoder = BatchEncoder(net, CPU, Way("openvino", "fp32"), folder)
    pixels = regions(19)
    together = encoder.encode(pixels)
    alone = np.concatenate([encoder.encode(pixels[i : i + 1]) for i in range(19)])
    started = [encoder.start(pixels[first : first + 7]) for first in (0, 7, 14)]
    ahead = np.concatenate([one.result() for one in started])
    backwards = encoder.encode(pixels[::-1])[::-1]
    assert together.tobytes() == alone.tobytes() == ahead.tobytes() == backwards.tobytes()
    assert encoder.n_encoded == 19 * 4


def test_a_batch_that_failed_in_openvino_fails_no_other(
    openvino: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = regions(openvino.batch)
    wanted = openvino.start(pixels).result()
    tokens, failed = _Request.tokens, openvino.start(pixels)

    def failing(request: _Request, n: int) -> Any:
        if request.pending is failed:
            raise RuntimeError("inference failed")
        return tokens(request, n)

    monkeypatch.setattr(_Request, "tokens", failing)
    with pytest.raises(RuntimeError, match="inference failed"):
        failed.result()
    # As many as there are requests, so that the one that failed is used again.
    for _ in range(openvino.ahead + 1):
        assert openvino.start(pixels).result().tobytes() == wanted.tobytes()


def test_a_converted_encoder_is_kept_and_checked(
    net: RegionEncoder, openvino: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = regions(openvino.batch)
    fresh = openvino.start(pixels).result()
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(torch.export, "export", lambda *args: pytest.fail("converted again"))
        again = make_backend(net, CPU, Way("openvino", "fp32"), folder)
        np.testing.assert_array_equal(again.start(pixels).result(), fresh)
    with monkeypatch.context() as patch:
        patch.setattr(openvino_model, "version", lambda name: f"another {name}")
        changed = make_backend(net, CPU, Way("openvino", "fp32"), folder)
        np.testing.assert_array_equal(changed.start(pixels).result(), fresh)
    # Made anew and kept beside it: another timm may build another network of the same name.
    (made,) = set(folder.iterdir()) - {path}
    made.unlink()
    damaged = whole[:-100] + bytes(100)
    path.write_bytes(damaged)
    other = make_backend(net, CPU, Way("openvino", "fp32"), folder)
    np.testing.assert_array_equal(other.start(pixels).result(), fresh)
    assert path.read_bytes() != damaged


def test_nobody_is_told_where_the_messenger_was_there_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """OpenVINO asks it for its backend, and for that one's name, where it has one."""
    sent: list[Any] = []
    messenger = types.ModuleType("openvino_telemetry")
    messenger.Telemetry = sent.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "openvino_telemetry", messenger)
    with _telling_nobody():
        one = messenger.Telemetry("OVC", backend="ga4")
        one.send_event("ovc", "conversion_result", "success")
        assert not hasattr(one, "backend")
    assert not sent
    assert messenger.Telemetry == sent.append


@pytest.mark.usefixtures("openvino")
def test_openvino_tells_nobody_that_it_is_used() -> None:
    load_openvino()
    assert "openvino_telemetry" not in sys.modules
