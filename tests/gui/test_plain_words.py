"""The window speaks of slides, not of options, fields and packages."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from napari_xt.plain_words import plain, plain_source
from napari_xt.words import device_words, mpp_source
from xt_backend.engine import choose_device
from xt_backend.engine.familiarity import unfamiliar_colours, unfamiliar_regions
from xt_backend.errors import DeviceError, SlideMppError
from xt_backend.model import FeatureStats, read_card
from xt_backend.model.library import find_model
from xt_backend.slides import COLOUR_NUMBERS, Thumbnail, open_slide
from xt_backend.slides import mpp as mpp_rules

REACHED = ("backend", "engine", "model", "slides", "store", "training/tuning")
"""Rooms of the backend whose errors the window shows."""

NOT_ASKED_FOR = ("context_features.py", "sought.py")
"""The window runs nothing on exported features, and screens nothing."""

MACHINE = re.compile(
    r"--[a-z]|um/px|openslide\.|mpp\b|out of distribution|CUDA|torch|\bauto:", re.IGNORECASE
)


def said_with_options(checkout: Path) -> list[str]:
    """Every sentence of these rooms that names an option; X stands for what is filled in."""
    found = []
    for room in REACHED:
        for file in sorted((checkout / "src_backend" / "xt_backend" / room).rglob("*.py")):
            if file.name in NOT_ASKED_FOR:
                continue
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if not isinstance(node, ast.Call):
                    continue
                for argument in node.args:
                    parts = argument.values if isinstance(argument, ast.JoinedStr) else [argument]
                    text = "".join(
                        str(part.value) if isinstance(part, ast.Constant) else "X" for part in parts
                    )
                    if re.search(r"--[a-z]", text) and " " in text and "pip install" not in text:
                        found.append(text)
    return [*found, mpp_rules.WAY_OUT]


def test_no_option_of_a_command_is_named(checkout: Path) -> None:
    sentences = said_with_options(checkout)
    assert len(sentences) > 20
    left = [text for text in sentences if "--" in plain(f"Something is wrong. {text}.")]
    assert left == []


def test_the_cause_stays_beside_a_way_out_of_the_window() -> None:
    with pytest.raises(SlideMppError) as caught:
        mpp_rules.check_scale(2.0, 0.5)
    words = plain(str(caught.value))
    assert words.startswith("the slide has 2 µm per pixel, 4 times coarser than the 0.5 µm per")
    assert words.endswith("tick “Enlarge coarse scans” on the page Run.")
    assert not MACHINE.search(words)


def test_slides_unlike_the_training_are_told_in_plain_words() -> None:
    card = read_card(find_model("breast-demo"))
    low, high = card.colour_range[COLOUR_NUMBERS[-1]]
    assert low <= high
    pixels = np.full((64, 64, 3), 240, np.uint8)
    pixels[16:48, 16:48] = (60, 140, 60)  # green tissue
    told = unfamiliar_colours(card, Thumbnail(pixels, np.ones((64, 64), bool), 1.0, 1.0))
    assert told is not None
    assert MACHINE.search(told)
    stats = FeatureStats(mean=(0.0,), std=(1.0,), limit=0.5)
    far = unfamiliar_regions(card.model_copy(update={"feature_stats": stats}), torch.ones(4, 1, 1))
    assert far is not None
    assert MACHINE.search(far)
    for words in (plain(told), plain(far)):
        assert "breast-demo has learnt from" in words
        assert "may mean nothing" in words
        assert not MACHINE.search(words)


def test_devices_and_pixel_sizes_are_told_in_plain_words(tissue_slide: Path) -> None:
    chosen = choose_device("auto", "auto")
    assert not MACHINE.search(device_words(chosen.name, chosen.reason))
    assert device_words("cpu", "asked for") == "Runs on the processor (as chosen)."
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError) as caught:
            choose_device("cuda", "auto")
        words = plain(str(caught.value))
        assert words == (
            "There is no NVIDIA graphics card here that can be used. Choose another device on the "
            "page Run."
        )
    with open_slide(tissue_slide) as slide:
        words = mpp_source(slide.info)
        assert words.strip() == "Pixel size as written in the file"
    for made in (mpp_rules.mpp_from_user(0.5), mpp_rules.mpp_from_objective(20.0)):
        assert plain_source(made.source) != made.source
    assert mpp_source(SimpleNamespace(mpp=None)) == ""
