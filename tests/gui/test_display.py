"""`napari-xt view` where no window can be shown, or nothing is there to show in it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import napari
import pytest
from PIL import Image as Picture

from napari_xt.display import require_display
from xt_backend.cli import main
from xt_backend.errors import UsageError

from .conftest import write_slide

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="elsewhere there always is a display"
)


@pytest.fixture
def no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_display")
def test_without_a_display_view_says_so_and_ends(tmp_path: Path, noisy_image: Any) -> None:
    slide = write_slide(tmp_path / "s.tiff", noisy_image)
    code = "from xt_backend.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, "view", str(slide)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2  # below 0, Qt has ended the process
    (line,) = ended.stderr.splitlines()
    assert line.startswith("Error: There is no display")
    assert "<id>.overlay.png" in line


@pytest.mark.usefixtures("no_display")
def test_platforms_without_a_screen_are_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    for platform in ("offscreen", "minimal", "vnc:size=800x600", "offscreen;xcb"):
        monkeypatch.setenv("QT_QPA_PLATFORM", platform)
        require_display()
    for platform in ("xcb", "wayland", "wayland;xcb", ""):
        monkeypatch.setenv("QT_QPA_PLATFORM", platform)
        with pytest.raises(UsageError, match="no display"):
            require_display()


def test_a_display_must_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    require_display()  # the one that these tests run on
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("QT_QPA_PLATFORM", raising=False)
    with socket.socket(socket.AF_UNIX) as server:
        number = 4000 + os.getpid()
        server.bind(f"\0/tmp/.X11-unix/X{number}")
        monkeypatch.setenv("DISPLAY", f":{number}.0")
        with pytest.raises(UsageError, match="does not answer"):  # nobody listens yet
            require_display()
        server.listen()
        require_display()
    # What an ended `ssh -X` leaves behind.
    with socket.socket() as gone:
        gone.bind(("127.0.0.1", 0))
        port = gone.getsockname()[1]
        monkeypatch.setenv("DISPLAY", f"localhost:{port - 6000}.0")
        with pytest.raises(UsageError, match="does not answer"):
            require_display()


@pytest.mark.parametrize("kind", ["picture", "folder", "run"])
def test_what_was_named_and_cannot_be_shown_is_refused(
    tmp_path: Path,
    noisy_image: Any,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def no_window(**options: Any) -> None:
        raise AssertionError("a window for nothing")

    monkeypatch.setattr(napari, "Viewer", no_window)
    named = [tmp_path / "picture.jpg"]
    Picture.fromarray(noisy_image[:64, :64]).save(named[0])
    if kind == "folder":
        named = [tmp_path]
    elif kind == "run":
        named = [write_slide(tmp_path / "s.tiff", noisy_image), tmp_path / "s.run.h5"]
        named[1].write_bytes(b"cut off")
    with pytest.raises(SystemExit) as ended:
        main(["view", *map(str, named)])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("Error: ")
    assert {"picture": "JPEG", "folder": "DICOM", "run": "s.run.h5"}[kind] in told
