"""Same input, same machine, same versions, same backend: the same bytes, for every context."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.cli import Call, rows
from support.models import write_tiny_model
from support.run_files import check_same, result_of
from support.slides import tissue_image, write_tiff_slide

from xt_backend import score
from xt_backend.model import list_contexts
from xt_backend.store import ScoreMap


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """512 x 512 px at 0.5 um/px: 16 regions of the tiny model, in 4 read blocks or more."""
    image = tissue_image(512, 512, ((0, 0, 512, 512),))
    return write_tiff_slide(tmp_path_factory.mktemp("slide") / "slide.tiff", image)


def told(found: ScoreMap) -> tuple[bytes, ...]:
    """Every number of a result."""
    values = (
        found.cells,
        found.status,
        found.logits,
        found.probabilities,
        found.region_only_logits,
    )
    return tuple(value.tobytes() for value in values)


@pytest.mark.parametrize("kind", list_contexts())
def test_case_29_the_same_bytes_for_every_context(kind: str, slide: Path, tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "m.safetensors", context=kind)
    cache = tmp_path / "cache"

    def result(batch_size: int, workers: int, **options: Any) -> tuple[Any, str]:
        run = score(slide, str(model), device="cpu", encoder_backend="torch", tissue="all",
                    batch_size=batch_size, workers=workers, **options)  # fmt: skip
        (found,) = run.score_maps.values()
        return told(found), run.rows[0].cache

    first, _ = result(32, 4, use_cache=False)
    corner = {"type": "Polygon", "coordinates": [[[0, 0], [200, 0], [200, 200], [0, 200], [0, 0]]]}
    part, how = result(1, 0, cache=cache, roi=corner)
    assert (how, part[0] != first[0]) == ("miss", True)
    assert result(5, 0, cache=cache) == (first, "partial")
    assert result(1, 4, cache=cache) == (first, "hit")


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_case_29_a_run_is_repeated_to_the_byte(
    backend: str,
    call: Call,
    slide: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino", reason="needs the extra cpu")
    folder = tmp_path / "work"
    folder.mkdir()
    shutil.copy(slide, folder / "a.tiff")
    shutil.copy(tiny_model, folder / "m.safetensors")
    # What a flag cannot say: the manifest's own pixel size.
    (folder / "list.csv").write_text("slide,slide_mpp\na.tiff,0.45\n")
    monkeypatch.chdir(folder)
    made = call("score", "list.csv", "--model", "m.safetensors", "--out", "first", "--stride",
                "48", "--exclude-flagged", "--cache", "cache", "--layouts", "parquet",
                "--encoder-backend", backend)  # fmt: skip
    assert made.returncode == 0, made.stderr
    # Which way is the fastest is not measured again.
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "nothing"))
    monkeypatch.chdir(tmp_path)
    run_json = folder / "first" / "run.json"
    again = call("score", "--repeat", run_json, "--out", "second", "--no-cache")
    assert again.returncode == 0, again.stderr
    assert rows(tmp_path / "second")[0]["cache"] == "miss"
    check_same(result_of(tmp_path / "second"), result_of(folder / "first"))
    encoder = json.loads((tmp_path / "second" / "run.json").read_text())["encoder"]
    assert (encoder["way"]["backend"], encoder["tried"]) == (backend, [])
    for more in (("--stride", "32"), ("a.tiff",), ("--context", "off")):
        refused = call("score", *more, "--repeat", run_json, "--out", "third")
        assert refused.returncode == 2
        assert "--repeat takes all from the earlier run" in refused.stderr
    other = write_tiny_model(tmp_path / "m.safetensors", context="mamba2")
    shutil.copy(other, folder / "m.safetensors")
    refused = call("score", "--repeat", run_json, "--out", "third")
    assert refused.returncode == 2
    assert "The run cannot be repeated: model." in refused.stderr
    (folder / "first" / "local.json").unlink()
    refused = call("score", "--repeat", run_json, "--out", "third")
    assert refused.returncode == 2
    assert "There is no local.json" in refused.stderr
    assert not (tmp_path / "third").exists()
