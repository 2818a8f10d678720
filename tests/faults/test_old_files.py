"""Files that earlier versions wrote stay readable: one of each version is kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from support.fuzz_child import KEY

from xt_backend.errors import ModelError
from xt_backend.keys import RegionStatus, RunH5, StoreH5
from xt_backend.model import load_model, read_card
from xt_backend.model.card import FORMAT_VERSION
from xt_backend.store import RegionStore, ScoreMap, store_folder


@pytest.fixture(scope="module")
def kept(checkout: Path) -> Path:
    return checkout / "tests" / "data" / "old_files"


def test_case_08_there_is_a_file_of_every_version(kept: Path) -> None:
    for kind, newest in (
        ("store-{}.h5", StoreH5.SCHEMA),
        ("store-index-{}.json", StoreH5.SCHEMA),
        ("run-{}.run.h5", RunH5.SCHEMA),
        ("model-{}.safetensors", FORMAT_VERSION),
    ):
        for version in range(1, newest + 1):
            assert (kept / kind.format(version)).is_file(), "keep a file of each version"


@pytest.mark.parametrize("version", range(1, StoreH5.SCHEMA + 1))
def test_case_08_files_of_every_version_are_read(kept: Path, tmp_path: Path, version: int) -> None:
    folder = store_folder(tmp_path, KEY)
    folder.mkdir(parents=True)
    index = json.loads((kept / f"store-index-{version}.json").read_text())
    (name,) = index["shards"]
    shutil.copy(kept / f"store-index-{version}.json", folder / StoreH5.INDEX)
    shutil.copy(kept / f"store-{version}.h5", folder / name)
    store = RegionStore.open(tmp_path, KEY)
    assert store.problems == []
    cells = np.array([[2, 5], [0, 0], [7, 7]], np.int32)
    features, status, found = store.load(cells)
    assert found.tolist() == [True, True, False]
    assert features[:2, 0].tolist() == [list(range(16, 24)), list(range(8))]
    assert status[:2].tolist() == [RegionStatus.OK] * 2


@pytest.mark.parametrize(
    ("version", "screened_out", "tumour", "looked_at"),
    [(1, 0, 3.58684921, 1), (2, 1, 3.57169247, 8 / 9)],
)
def test_case_08_score_maps(
    kept: Path, version: int, screened_out: int, tumour: float, looked_at: float
) -> None:
    found = ScoreMap.load(kept / f"run-{version}.run.h5")
    assert len(found) == 12
    assert found.status_counts()[RegionStatus.SCREENED_OUT] == screened_out
    assert found.status_counts()[RegionStatus.READ_ERROR] == 1
    assert float(np.nansum(found.probabilities[:, 1])) == pytest.approx(tumour)
    assert found.tissue is None
    assert found.quality is None
    assert sum(found.fractions().values()) == pytest.approx(looked_at)


def test_case_08_models(kept: Path, tmp_path: Path) -> None:
    model = load_model(kept / "model-1.safetensors")
    with torch.no_grad():
        logits = model(torch.linspace(-1, 1, 3 * 32 * 64).reshape(1, 3, 32, 64))
    expected = [-0.11510846, -0.09861465, -0.47147292, -0.48485559]
    np.testing.assert_allclose(logits.flatten().tolist(), expected, atol=1e-5)
    newer = tmp_path / "newer.safetensors"
    whole = (kept / "model-1.safetensors").read_bytes()
    newer.write_bytes(whole.replace(b'format_version\\":1', b'format_version\\":9'))
    assert newer.read_bytes() != whole
    with pytest.raises(ModelError, match="9"):
        read_card(newer)
