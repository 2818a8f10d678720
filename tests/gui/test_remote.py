"""The panel with an address entered: a real cluster on loopback encodes for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from qtpy.QtTest import QTest
from support.ray_cluster import RayCluster, ray_cluster

from napari_xt.kept import kept_file
from napari_xt.remote import CONNECTING

from .conftest import PATIENCE_MS
from .test_run import click, open_slide_layer, run_to_end

pytest.importorskip("ray", reason="needs the extra ray")
pytestmark = pytest.mark.timeout(900)

RAY_MS = 400_000


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with ray_cluster() as one:
        yield one


@pytest.fixture(autouse=True)
def _nothing_entered_before() -> Iterator[None]:
    kept_file("elsewhere.json").unlink(missing_ok=True)
    yield
    kept_file("elsewhere.json").unlink(missing_ok=True)


@pytest.fixture
def panel(
    make_napari_viewer: Any, make_model: Any, cluster: RayCluster, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """The dock with a backend process of its own, which knows the cluster's token."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", cluster.token)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    viewer = make_napari_viewer()
    _, widget = viewer.window.add_plugin_dock_widget("napari-xt", "Run xT")
    widget.add_model_file(make_model())
    yield widget
    widget.session.close()


def enter(panel: Any, address: str, paths: str = "") -> None:
    """Type into the fields as a person does."""
    remote = panel.form.remote
    remote.fold.setChecked(True)
    for field, text in ((remote.paths, paths), (remote.address, address)):
        field.clear()
        QTest.keyClicks(field, text)
        field.editingFinished.emit()


def test_a_long_wait_is_told(panel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(panel.remote._look, "ask", asked.append)
    enter(panel, "127.0.0.1:6379")
    assert len(asked) == 1
    said, clock = panel.form.remote.status, panel.remote._clock
    assert said.text() == CONNECTING
    assert clock.isActive()
    panel.remote.tell_wait()
    assert said.text() == CONNECTING, "nothing is told of a short one"
    panel.remote._since -= 20
    panel.remote.tell_wait()
    assert " s. A worker is being started there" in said.text()
    enter(panel, "")
    assert not clock.isActive()
    assert said.text() == ""


def test_a_run_there_is_as_one_here(
    qtbot: Any, panel: Any, square_slide: Path, cluster: RayCluster, tmp_path: Path
) -> None:
    open_slide_layer(panel, square_slide)
    enter(panel, cluster.address, f"{square_slide.parent}=/nowhere")
    qtbot.waitUntil(lambda: panel.remote.connected, timeout=RAY_MS)
    assert f"in the Ray cluster at {cluster.address}" in panel.form.remote.status.text()

    there = run_to_end(qtbot, panel)
    assert there.encoded_regions == there.score_map.scored.sum() > 0
    assert "which is sent pixels" in panel.plan.text()
    assert panel.overlay is not None

    # The next window begins with the same address; emptied, it runs here and finds everything.
    assert cluster.address in kept_file("elsewhere.json").read_text(encoding="utf-8")
    enter(panel, "")
    assert panel.form.remote.status.text() == ""
    here = run_to_end(qtbot, panel)
    assert here.cache == "hit"
    assert here.score_map.logits.tobytes() == there.score_map.logits.tobytes()


def test_cancel_stops_a_run_there(
    qtbot: Any, panel: Any, cluster: RayCluster, long_run: Any
) -> None:
    long_run()
    enter(panel, cluster.address)
    grown: list[Any] = []
    panel.session.progressed.connect(grown.append)
    click(qtbot, panel, "Run xT")
    qtbot.waitUntil(lambda: bool(grown), timeout=RAY_MS)
    with qtbot.waitSignal(panel.session.finished, timeout=PATIENCE_MS) as waited:
        click(qtbot, panel, "Cancel")
    event = waited.args[0]
    assert event.cancelled
    assert 0 < event.score_map.scored.sum() < len(event.score_map)
    assert panel.status.text().startswith("Cancelled")


def test_an_address_with_nobody_is_said_below_it_and_running_here_works(
    qtbot: Any, panel: Any, square_slide: Path
) -> None:
    open_slide_layer(panel, square_slide)
    enter(panel, "127.0.0.1:1")
    said = panel.form.remote.status
    qtbot.waitUntil(lambda: "no Ray cluster at 127.0.0.1:1" in said.text(), timeout=RAY_MS)
    assert not panel.remote.connected
    enter(panel, "nowhere")
    qtbot.waitUntil(lambda: "HOST:PORT" in said.text(), timeout=PATIENCE_MS)
    enter(panel, "")
    assert said.text() == ""
    assert run_to_end(qtbot, panel).score_map.scored.any()


def test_a_cluster_that_is_lost_is_said_once_and_the_next_run_works(
    qtbot: Any,
    panel: Any,
    long_run: Any,
    square_slide: Path,
    make_model: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    errors: list[str] = []
    monkeypatch.setattr("napari_xt.runs.show_error", errors.append)
    long_run()
    with ray_cluster() as lost:
        monkeypatch.setenv("RAY_AUTH_TOKEN", lost.token)
        enter(panel, lost.address)
        grown: list[Any] = []
        panel.session.progressed.connect(grown.append)
        click(qtbot, panel, "Run xT")
        qtbot.waitUntil(lambda: bool(grown), timeout=RAY_MS)
        with qtbot.waitSignal(panel.session.failed, timeout=RAY_MS):
            lost.lose()
    assert len(errors) == 1
    assert "Ray" in errors[0]
    assert panel.form.remote.status.text()
    enter(panel, "")
    panel.add_model_file(make_model())
    open_slide_layer(panel, square_slide)
    assert run_to_end(qtbot, panel).score_map.scored.any()
