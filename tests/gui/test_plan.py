"""The line that says on which device a run would compute."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from qtpy.QtWidgets import QLabel

from napari_xt import plan as plan_module
from napari_xt.plan import Plan
from napari_xt.preview import Preview
from xt_backend.backend import DeviceChoice


def test_a_late_answer_is_about_the_device_that_was_asked_for(
    qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "preview", lambda spec, card: Preview(3, 64.0, 1.0, ()))
    slow = threading.Event()

    def question(asked: str) -> Callable[[], DeviceChoice]:
        def answer() -> DeviceChoice:
            assert asked != "cuda" or slow.wait(20)
            return DeviceChoice(f"the {asked}", "fp32", "asked for")

        return answer

    label = QLabel()
    qtbot.addWidget(label)
    plan = Plan(label, question, label)

    def look(device: str) -> None:
        plan.look(SimpleNamespace(device=device), None)  # type: ignore[arg-type]

    look("auto")
    qtbot.waitUntil(lambda: "the auto" in label.text(), timeout=20_000)
    look("cuda")
    look("auto")
    slow.set()
    qtbot.waitUntil(lambda: "cuda" in plan._devices, timeout=20_000)
    assert "the cuda" in plan._devices["cuda"]
    assert "the auto" in label.text()
