"""Closing napari while a run goes on: no wait, no warning, nothing left behind."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from .conftest import PURPLE, speckled, write_slide

SCRIPT = """
    import sys, time
    import napari
    from qtpy.QtCore import QTimer

    viewer = napari.Viewer(show=True)
    viewer.open({slide!r}, plugin="napari-xt")
    _, panel = viewer.window.add_plugin_dock_widget("napari-xt", "Run xT")
    from pathlib import Path
    panel.add_model_file(Path({model!r}))

    def close():
        print("pid", getattr(panel.session._backend._worker, "pid", None), flush=True)
        print("closing", flush=True)
        {how}

    {when}
    QTimer.singleShot(200, panel.run_button.click)
    napari.run()
    print("torch" if "torch" in sys.modules else "light", flush=True)
"""
WHEN = {
    "mid-run": "panel.session.progressed.connect(lambda event: QTimer.singleShot(0, close))",
    "while starting": "QTimer.singleShot(1500, close)",
}
HOW = {
    "window": "viewer.close()",
    "quit": "from qtpy.QtWidgets import QApplication; QApplication.quit()",
    "dock": (
        "viewer.window.remove_dock_widget(panel.parent()); QTimer.singleShot(500, viewer.close)"
    ),
}


OPENS_S = 600.0
CLOSES_S = 5.0
"""How soon a window is promised to be gone."""


@contextmanager
def ended_after(process: subprocess.Popen[str], limit_s: float) -> Iterator[None]:
    """Kill a process that takes longer; its exit code tells."""
    watch = threading.Timer(limit_s, process.kill)
    watch.start()
    try:
        yield
    finally:
        watch.cancel()


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("when", "how"),
    [("mid-run", "window"), ("mid-run", "quit"), ("mid-run", "dock"), ("while starting", "window")],
)
def test_case_23_nothing_is_left(
    tmp_path: Path, make_model: Callable[..., Path], when: str, how: str
) -> None:
    image = np.full((8192, 8192, 3), 255, np.uint8)
    image[256:7936, 256:7936] = np.tile(speckled((512, 512), PURPLE), (15, 15, 1))
    slide = write_slide(tmp_path / "large.tiff", image)
    code = textwrap.dedent(SCRIPT).format(
        slide=str(slide), model=str(make_model()), how=HOW[how], when=WHEN[when]
    )
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        backend = None
        opening = time.monotonic()
        with ended_after(process, OPENS_S):
            for line in process.stdout:
                if line.startswith("pid"):
                    backend = None if line.split()[1] == "None" else int(line.split()[1])
                if line.startswith("closing"):
                    break
        closing = time.monotonic()
        # How long opening took shows how busy the machine is.
        with ended_after(process, max(10 * CLOSES_S, 2 * (closing - opening))):
            rest = process.stdout.read().split()
            code = process.wait()
        print(f"opened in {closing - opening:.2f} s, closed in {time.monotonic() - closing:.2f} s")
        complaints = process.stderr.read()
    assert code == 0, complaints
    assert "QThread" not in complaints
    assert "Traceback" not in complaints
    # torch beside a window can crash it (see conftest), and would cost it memory and seconds.
    assert rest[-1:] == ["light"]
    assert backend is not None or when == "while starting"
    if backend is not None:
        left = [psutil.Process(backend)] if psutil.pid_exists(backend) else []
        _, alive = psutil.wait_procs(left, 30)
        assert not alive
    leftovers = list(tmp_path.rglob("*.partial"))
    assert not leftovers
