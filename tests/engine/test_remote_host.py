"""What a worker on another machine does, without the machine."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from xt_backend.config import CommonOptions
from xt_backend.engine import BatchEncoder, choose_device, prepare
from xt_backend.engine.remote.host import Host
from xt_backend.engine.remote.messages import Looked, SlideThere
from xt_backend.errors import EngineError, SlideChangedError
from xt_backend.keys import RegionStatus
from xt_backend.model import load_model, read_card
from xt_backend.slides import Reader


@pytest.fixture
def host(tiny_model: Path) -> Host:
    found = Host()
    sha256 = read_card(tiny_model).state_sha256
    assert not found.has_model(sha256, "tiny")
    found.put_model(sha256, tiny_model.read_bytes(), offline=True)
    assert found.has_model(sha256, "tiny")
    opened = found.encoder(sha256, "torch", "cpu", "fp32")
    assert (opened.device.name, opened.way.precision) == ("cpu", "fp32")
    return found


def there(slide: Path, identity: str, tiny_model: Path) -> SlideThere:
    card = read_card(tiny_model)
    prepared = prepare(slide, card.mpp(None), card.scored_px, CommonOptions())
    with prepared.slide:
        return SlideThere(
            path=str(slide),
            identity=identity or prepared.slide.identity(),
            slide_mpp=None,
            accept_objective_mpp=False,
            lattice=prepared.lattice,
            normaliser=None,
            workers=1,
        )


def test_what_it_reads_and_encodes_is_what_is_read_and_encoded_here(
    host: Host, tissue_slide: Path, tiny_model: Path
) -> None:
    card = read_card(tiny_model)
    prepared = prepare(tissue_slide, card.mpp(None), card.scored_px, CommonOptions())
    encoder = BatchEncoder(load_model(tiny_model).region_encoder, choose_device("cpu"))
    with prepared.slide:
        (batch,) = Reader(
            prepared.slide, prepared.lattice, prepared.cells, batch_size=len(prepared.cells)
        )
    features = encoder.encode(batch.pixels)
    assert host.begin("run", there(tissue_slide, "", tiny_model)) == ""
    looked = host.look("run", prepared.cells, measured=True)
    assert isinstance(looked, Looked)
    np.testing.assert_array_equal(looked.status, batch.status)
    assert looked.features is not None
    assert looked.features.tobytes() == features.tobytes()
    assert looked.measures is not None
    assert np.isfinite(looked.measures).all()
    sent = host.encode("run", batch.pixels[:3])
    assert sent is not None
    assert sent.tobytes() == features[:3].tobytes()


def test_a_run_that_has_ended_gets_no_more(
    host: Host, tissue_slide: Path, tiny_model: Path
) -> None:
    assert host.begin("run", there(tissue_slide, "", tiny_model)) == ""
    host.end("run")
    assert host.look("run", np.zeros((1, 2), np.int32), measured=False) is None
    assert host.encode("run", np.zeros((1, 64, 64, 3), np.uint8)) is None
    assert host.encode("next", np.zeros((1, 64, 64, 3), np.uint8)) is not None


def test_only_the_very_slide_is_read(
    host: Host, tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    asked = there(tissue_slide, "0" * 64, tiny_model)
    assert host.begin("run", asked) == "it sees another file in the slide's place"
    copy = Path(shutil.copy(tissue_slide, tmp_path / "copy.tiff"))
    assert host.begin("run", there(copy, "", tiny_model)) == ""
    with copy.open("ab") as file:
        file.write(b"more")
    with pytest.raises(SlideChangedError, match="changed while"):
        host.look("run", np.zeros((1, 2), np.int32), measured=False)
    copy.unlink()
    host.end("run")
    gone = SlideThere(**{**vars(asked), "path": str(copy)})
    assert host.begin("run", gone) == "it does not see the slide"


def test_regions_that_cannot_be_read_have_no_features(
    host: Host, tissue_slide: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert host.begin("run", there(tissue_slide, "", tiny_model)) == ""

    def unreadable(*_: object) -> tuple[np.ndarray, np.ndarray]:
        return (
            np.zeros((2, 64, 64, 3), np.uint8),
            np.array([RegionStatus.READ_ERROR, RegionStatus.OK], np.uint8),
        )

    monkeypatch.setattr(host, "_read", unreadable)
    looked = host.look("run", np.zeros((2, 2), np.int32), measured=True)
    assert looked is not None
    assert looked.features is not None
    assert len(looked.features) == 1
    assert looked.measures is not None
    assert np.isnan(looked.measures[0]).all()
    assert np.isfinite(looked.measures[1]).all()


@pytest.mark.parametrize("name", ["_take", "nothing", "__class__"])
def test_only_its_own_questions_are_answered(host: Host, name: str) -> None:
    with pytest.raises(EngineError, match="does not know"):
        host.method(name)


def test_the_process_in_the_middle_loads_neither_torch_nor_slides() -> None:
    """It is what the first connection waits for."""
    pytest.importorskip("ray", reason="needs the extra ray")
    code = (
        "import sys, xt_backend.engine.remote.child;"
        "print([name for name in ('torch', 'openslide', 'scipy', 'timm') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
