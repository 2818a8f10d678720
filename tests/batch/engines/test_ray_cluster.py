"""A Ray cluster that was there before: it writes what one process does, and is there afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.engines import below, files_of
from support.ray_cluster import RayCluster, ray_cluster

import xt_backend as xt
from xt_backend.batch import Run

pytest.importorskip("ray", reason="needs the extra ray")

WORKER = "ray::Member"


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    """Three nodes, each in a folder of its own."""
    with ray_cluster(3, n_cpus=1) as started:
        yield started


@pytest.fixture(autouse=True)
def known(cluster: RayCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token of the cluster is that of the user."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", cluster.token)


@pytest.mark.timeout(900)
def test_three_workers_in_folders_of_their_own_write_the_same_bytes_though_one_is_killed(
    score_with: Callable[..., Run],
    local_files: dict[str, bytes],
    cluster: RayCluster,
    tmp_path: Path,
) -> None:
    folders: list[Path] = []

    def look_and_kill() -> None:
        workers = below(WORKER)
        if folders or len(workers) < 3:
            return
        folders.extend(Path(process.cwd()) for process in workers)
        workers[0].kill()

    run = score_with(
        tmp_path / "run", look_and_kill, engine="ray", processes=3, address=cluster.address
    )
    assert sorted(folders) == sorted(cluster.folders), "three workers were there at once"
    assert run.counts == {"done": 6, "failed": 1, "empty": 0}
    assert files_of(tmp_path / "run") == local_files
    assert cluster.is_alive


@pytest.mark.timeout(900)
def test_the_cluster_goes_on_with_features_of_the_same_bytes(
    cluster: RayCluster, slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(slides.parent)
    made = {}
    for name, how in {
        "here": {},
        "there": {"engine": "ray", "processes": 2, "address": cluster.address},
    }.items():
        out = tmp_path / name
        run = xt.features(
            "slides", "tf_efficientnet_lite0", out, weights="random", region_px=64,
            use_cache=False, **how,
        )  # fmt: skip
        assert run.counts == {"done": 6, "failed": 1, "empty": 0}
        made[name] = files_of(out)
    assert made["there"] == made["here"]
    assert len(made["here"]) > 6
    assert cluster.is_alive


@pytest.mark.timeout(300)
def test_without_the_token_the_cluster_is_not_to_be_had(
    cluster: RayCluster, slides: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    with pytest.raises(xt.XTError, match=r"no Ray cluster|Ray ended unexpectedly"):
        xt.score(slides, str(tiny_model), engine="ray", address=cluster.address)
    assert cluster.is_alive
