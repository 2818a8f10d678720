"""The backend's words as the window says them: files and commands keep their own."""

from __future__ import annotations

import re

__all__ = ["HERE", "plain", "plain_source"]

HERE = "on the page Run"

_SOURCES = {
    "openslide.mpp-x": "as written in the file",
    "objective-power": "reckoned from the objective",
    "user": "entered by hand",
}
"""Where a pixel size comes from, by its name in tables."""

_PHRASES = (
    (r" \(um/px\)", ""),
    (r"um/px", "µm per pixel"),
    (
        r"out of distribution: the slide is (.+?) than those that (.+?) was trained on; "
        r"its predictions may mean nothing",
        r"this slide is \1 than those that \2 has learnt from; what it says here may mean nothing",
    ),
    (
        r"out of distribution: its regions look unlike those that (.+?) was trained on "
        r"\(.+? times the limit\)",
        r"the tissue looks unlike what \1 has learnt from; what it says here may mean nothing",
    ),
    (r"out of distribution", "unlike what the model has learnt from"),
    (
        r"Device cuda\S* was asked for, but torch sees \S+ CUDA devices?",
        "There is no NVIDIA graphics card here that can be used",
    ),
    (
        r"Device mps was asked for, but there is no Apple GPU",
        "This computer has no Apple graphics that can be used",
    ),
    (r" \(openslide\.mpp-x\)|\bopenslide\.mpp-[xy]", ""),
    (r"\bauto: ", ""),
    (r"no CUDA device and no Apple GPU found", "no graphics card that can be used was found"),
    (r"no CUDA device, Apple GPU found", "the graphics of this Apple computer was found"),
    (r"\basked for\)", "as chosen)"),
    (r"Runs on cpu\b", "Runs on the processor"),
    (r"Runs on cuda:0\b", "Runs on the graphics card"),
    (r"Runs on cuda:(\d+)\b", r"Runs on graphics card \1"),
    (r"Runs on mps\b", "Runs on the Apple graphics"),
)
"""What stands in the backend's sentences, and what the window says for it."""

_WAYS_OUT = {
    "--slide-mpp": f"Enter the pixel size {HERE}",
    "--allow-upsample": (
        "Use a scan of higher resolution or a model for coarser pixels, or tick “Enlarge coarse "
        f"scans” {HERE}"
    ),
    "--tissue": f"Choose “Everything scanned” as the area {HERE}, or draw an area",
    "--roi": f"Draw a smaller area {HERE}, or choose the device CPU",
    "--device": f"Choose another device {HERE}",
    "--encoder-backend": f"Choose another device {HERE}, or start napari again",
    "--precision": f"Choose another device {HERE}",
    "--cache": "Check that you may write into the cache; “napari-xt doctor” says where it lies",
    "--weights": (
        "Check the network, or ask whoever gave you the model for a file that holds its weights"
    ),
    "--model-mpp": "Ask whoever gave you the model for a file that states its pixel size",
    "--model": "Pick the model's file with “…” beside the models",
    "--max-failed-fraction": "Get the slide again, or draw an area without what cannot be read",
    "--max-pixels": "Let somebody score it by command, which can be told that it is that large",
    "--labels": "Choose a model that gives each region a class",
    "--task": "Train a model with the corrections, by command",
    "--out": "Choose another name",
    "--config": "Correct more regions, and train again",
}
"""What can be done about it in the window, by the option that the backend's sentence names; the
first that is named there counts."""

_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z“])")
_OPTION = re.compile(r"--[a-z][a-z-]*")


def plain(text: str) -> str:
    """What the backend says, in the window's words: no options of commands, no names of fields.

    Args:
        text: Sentences, or a note without capital and full stop.
    """
    return " ".join(_sentence(part) for part in _SENTENCE.split(text))


def plain_source(name: str) -> str:
    """Where a pixel size comes from."""
    return _SOURCES.get(name, name)


def _sentence(text: str) -> str:
    ways = (_WAYS_OUT.get(option) for option in _OPTION.findall(text))
    way = next((way for way in ways if way), "")
    if way:
        return way + ("." if text.endswith(".") else "")
    for pattern, words in _PHRASES:
        text = re.sub(pattern, words, text)
    return text
