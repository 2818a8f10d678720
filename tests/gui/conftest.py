"""Slides with known content, made on the spot, and what it takes to test with a window."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tifffile

# Mesa's software OpenGL and torch's Triton both bring LLVM: a window first and Triton second
# crashes the process. napari-xt never loads torch beside a window; these tests make models.
with contextlib.suppress(ImportError):
    import triton  # noqa: F401

from qtpy.QtCore import Qt

from napari_xt.kept import kept_file

PURPLE = (120, 40, 140)
PINK = (232, 130, 170)
TILE_PX = 256
PATIENCE_MS = 240_000


def write_slide(
    path: Path,
    image: np.ndarray[Any, Any],
    mpp: float | None = 0.5,
    *,
    levels: int = 3,
    without_tile: Callable[[int, int], bool] | None = None,
) -> Path:
    """A pyramidal TIFF as OpenSlide's generic-tiff reads it.

    Args:
        image: (h, w, 3) uint8, level 0.
        mpp: um/px that the file states, None for nothing.
        levels: Each half of the one before.
        without_tile: Tells by (y0_px, x0_px), level 0, which tiles the file lacks; OpenSlide
            then states bounds.
    """
    with tifffile.TiffWriter(path) as writer:
        for level in range(levels):
            step = 2**level
            size: dict[str, Any] = {}
            if mpp is not None:
                size = {
                    "resolution": (1e4 / (mpp * step), 1e4 / (mpp * step)),
                    "resolutionunit": "CENTIMETER",
                }
            writer.write(
                image[::step, ::step],
                tile=(TILE_PX, TILE_PX),
                photometric="rgb",
                compression="deflate",
                subfiletype=1 if level else 0,
                metadata=None,
                **size,
            )
    if without_tile is not None:
        _drop_tiles(path, without_tile)
    return path


def _drop_tiles(path: Path, without_tile: Callable[[int, int], bool]) -> None:
    with tifffile.TiffFile(path, mode="r+b") as file:
        for level, page in enumerate(file.pages):
            step_px = TILE_PX * 2**level
            columns = -(-page.imagewidth // TILE_PX)
            dropped = [
                without_tile(index // columns * step_px, index % columns * step_px)
                for index in range(len(page.dataoffsets))
            ]
            for name in ("TileOffsets", "TileByteCounts"):
                values = page.tags[name].value
                page.tags[name].overwrite(
                    [0 if drop else value for drop, value in zip(dropped, values, strict=True)]
                )


def spoil_tile(path: Path, x0_px: int, y0_px: int) -> None:
    """Overwrite the level-0 tile at a place with bytes that are no image."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        index = y0_px // TILE_PX * -(-page.imagewidth // TILE_PX) + x0_px // TILE_PX
        offset, count = page.dataoffsets[index], page.databytecounts[index]
    with path.open("r+b") as raw:
        raw.seek(offset)
        raw.write(b"\xff" * count)


def speckled(shape: tuple[int, int], color: tuple[int, int, int], seed: int = 0) -> Any:
    """(h, w, 3) uint8 of a colour with some grain, as tissue has and glass has not."""
    grain = np.random.default_rng(seed).integers(-24, 25, (*shape, 1))
    return np.clip(np.array(color) + grain, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def window_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The region stores of all tests with a window: the backend they share keeps to one folder."""
    return tmp_path_factory.mktemp("window-cache")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, window_cache: Path) -> None:
    monkeypatch.setenv("NAPARI_XT_CACHE", str(window_cache))


@pytest.fixture(autouse=True)
def _nothing_chosen_before() -> None:
    """No test begins with what was chosen in another one."""
    kept_file("choices.json").unlink(missing_ok=True)


@pytest.fixture
def noisy_image() -> Any:
    """(1500, 2100, 3) uint8, every pixel different from its neighbours."""
    return np.random.default_rng(7).integers(0, 256, (1500, 2100, 3), dtype=np.uint8)


@pytest.fixture
def square_slide(tmp_path: Path) -> Path:
    """3072 x 2048 px at 0.5 um: a purple oblong from (1024, 512) to (2048, 1024) on paper.

    Its grain is each test's own, so that the kept backend has not seen its regions before.
    """
    image = np.full((2048, 3072, 3), 255, np.uint8)
    image[512:1024, 1024:2048] = speckled((512, 1024), PURPLE, zlib.crc32(bytes(tmp_path)))
    return write_slide(tmp_path / "square.tiff", image)


@pytest.fixture
def long_run(panel: Any, tmp_path: Path, make_model: Callable[..., Path]) -> Callable[[], Any]:
    """Opens a slide, and picks a model that needs seconds for it on any machine.

    Returns the slide's layer; may be called again after the layer was taken away. Where something
    has to happen in the midst of the run, `brake` keeps it there.
    """
    image = np.full((3072, 3072, 3), 255, np.uint8)
    image[256:2816, 256:2816] = speckled((2560, 2560), PURPLE, zlib.crc32(bytes(tmp_path)))
    path = write_slide(tmp_path / "long.tiff", image)

    def start() -> Any:
        (layer,) = panel._viewer.open(path, plugin="napari-xt")
        panel.add_model_file(make_model("slow", encoder="tf_efficientnet_lite0"))
        return layer

    return start


def two_squares(image: np.ndarray[Any, Any]) -> None:
    """Paint a purple square at (1024, 512) and a pink one at (1536, 1024), 512 px each."""
    image[512:1024, 1024:1536] = speckled((512, 512), PURPLE)
    image[1024:1536, 1536:2048] = speckled((512, 512), PINK, 1)


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a real model with random weights, small enough to run hundreds of regions a second."""
    folder = tmp_path_factory.mktemp("models")

    def make(
        name: str = "little",
        model_mpp: float = 0.5,
        encoder: str = "test_resnet",
        task: str = "region",
    ) -> Path:
        path = folder / f"{name}-{model_mpp:g}-{encoder}-{task}.safetensors"
        if not path.exists():
            from xt_backend.model import (
                XT,
                ClassInfo,
                ContextInfo,
                DetectionInfo,
                ModelCard,
                build_region_encoder,
                save_model,
            )

            region_encoder = build_region_encoder(encoder, region_px=64, weights="random")
            card = ModelCard(
                name=name,
                task=task,
                # Random weights see points everywhere, but not strongly.
                detection=DetectionInfo(thresholds={"tumour": 0.0} if task == "detection" else {}),
                classes=(
                    ClassInfo(name="stroma", color="#2a9d8f"),
                    ClassInfo(name="tumour", color="#e5383b"),
                ),
                model_mpp=model_mpp,
                region_px=64,
                input_px=region_encoder.input_px,
                tokens_per_region=region_encoder.tokens_per_region,
                region_encoder=region_encoder.info,
                context=ContextInfo(kind="attention", dim=16, layers=1),
                mean=tuple(region_encoder.mean.flatten().tolist()),
                std=tuple(region_encoder.std.flatten().tolist()),
            )
            save_model(XT(card, region_encoder), path)
        return path

    return make


class KeptBackend:
    """A real backend process for all tests: starting one takes longer than most runs."""

    def __init__(self) -> None:
        from xt_backend.backend import Backend

        self._backend = Backend(process=True)
        self.submit = self._backend.submit
        self.work = self._backend.work
        self.cancel = self._backend.cancel
        self.device = self._backend.device
        self.end = self._backend.close

    @property
    def pid(self) -> int | None:
        """Of the process, while it lives."""
        return self._backend._worker.pid

    def close(self) -> None:
        """The next test needs it."""


@pytest.fixture(scope="session")
def kept_backend() -> Iterator[KeptBackend]:
    backend = KeptBackend()
    yield backend
    backend.end()


class Brake:
    """Stops the backend process in the midst of a run, as if it were slow, until it is let go.

    What a test does then is done mid-run, however quick the processor and slow the window.
    """

    def __init__(self, backend: KeptBackend, submit: Callable[..., Any]) -> None:
        self._backend, self._submit = backend, submit
        self._at: type | None = None
        self._held: psutil.Process | None = None

    def pull(self, at: type) -> None:
        """Stop with the next event of this kind."""
        self._at = at

    def submit(self, spec: Any) -> Iterator[Any]:
        """`Backend.submit`, which hands the run over at once."""
        return self._watched(self._submit(spec))

    def _watched(self, events: Iterator[Any]) -> Iterator[Any]:
        for event in events:
            if self._at is not None and isinstance(event, self._at):
                self._at = None
                self.hold()
            yield event

    def hold(self) -> None:
        """Stop now."""
        self._held = psutil.Process(self._backend.pid)
        self._held.suspend()

    def kill(self) -> None:
        """End it for good."""
        psutil.Process(self._backend.pid).kill()
        self._held = None

    def release(self) -> None:
        """Let it go on."""
        self._at = None
        held, self._held = self._held, None
        if held is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                held.resume()


@pytest.fixture
def brake(kept_backend: KeptBackend, monkeypatch: pytest.MonkeyPatch) -> Iterator[Brake]:
    brake = Brake(kept_backend, kept_backend.submit)
    monkeypatch.setattr(kept_backend, "submit", brake.submit)
    yield brake
    brake.release()


@pytest.fixture
def mid_run(qtbot: Any, panel: Any, brake: Brake) -> Callable[[], None]:
    """Clicks `Run xT`, and comes back when the first regions are shown and the run stands still."""
    from xt_backend.engine.events import RegionsScored

    def start() -> None:
        brake.pull(RegionsScored)
        with qtbot.waitSignal(panel.session.progressed, timeout=PATIENCE_MS):
            qtbot.mouseClick(panel.run_button, Qt.MouseButton.LeftButton)
        assert panel.session.running

    return start


@pytest.fixture
def panel(
    make_napari_viewer: Callable[[], Any],
    make_model: Callable[..., Path],
    kept_backend: KeptBackend,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Any:
    """The dock as napari makes it from the manifest, with a small model picked.

    Its backend is a real one, but lives on after the dock; test_close and test_own_backend look
    at docks with a backend of their own.
    """
    monkeypatch.setattr("napari_xt.widget.make_backend", lambda: kept_backend)
    viewer = make_napari_viewer()
    _, widget = viewer.window.add_plugin_dock_widget("napari-xt", "Run xT")
    widget.add_model_file(make_model())
    yield widget
    widget.session.close()
