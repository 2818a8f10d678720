"""Pixel sizes: believed, refused, given by the user."""

from __future__ import annotations

import math

import pytest

from xt_backend.errors import SlideMppError
from xt_backend.slides import check_mpp, check_scale
from xt_backend.slides.mpp import (
    mpp_from_file,
    mpp_from_objective,
    mpp_from_user,
    objective_power,
)


@pytest.mark.parametrize(("x", "y"), [(0.05, 0.05), (5.0, 5.0), (0.25, 0.275), (0.275, 0.25)])
def test_believable(x: float, y: float) -> None:
    check_mpp(x, y)


@pytest.mark.parametrize(
    ("x", "y", "word"),
    [
        (0.0, 0.0, "0 um/px"),
        (-0.25, -0.25, "-0.25"),
        (math.nan, 0.25, "nan"),
        (0.25, math.inf, "inf"),
        (0.049, 0.049, "0.049"),
        (5.01, 5.01, "5.01"),
        (0.25, 0.2751, "10%"),
        (0.2751, 0.25, "10%"),
    ],
)
def test_unbelievable(x: float, y: float, word: str) -> None:
    with pytest.raises(SlideMppError) as caught:
        check_mpp(x, y)
    assert word in caught.value.cause
    assert "--slide-mpp" in caught.value.way_out
    assert "--accept-objective-mpp" in caught.value.way_out


@pytest.mark.parametrize("mpp", [0, -1, math.nan, math.inf, "inf", "x", None, 0.01, 6])
def test_bad_value_from_user(mpp: object) -> None:
    with pytest.raises(SlideMppError, match="--slide-mpp"):
        mpp_from_user(mpp)  # type: ignore[arg-type]


def test_user_value() -> None:
    mpp = mpp_from_user(0.5)
    assert (mpp.x, mpp.y, mpp.source, mpp.value) == (0.5, 0.5, "user", 0.5)


def test_file_value() -> None:
    mpp, problem = mpp_from_file({"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.26"})
    assert mpp is not None
    assert (mpp.x, mpp.y, mpp.source, problem) == (0.25, 0.26, "openslide.mpp-x", "")
    assert mpp.value == pytest.approx(0.255)


@pytest.mark.parametrize(
    ("properties", "word"),
    [
        ({}, "does not state"),
        ({"openslide.mpp-x": "0.25"}, "one axis"),
        ({"openslide.mpp-x": "a", "openslide.mpp-y": "0.25"}, "not a number"),
        ({"openslide.mpp-x": "1e999", "openslide.mpp-y": "1e999"}, "inf"),
        ({"openslide.mpp-x": "nan", "openslide.mpp-y": "nan"}, "nan"),
        ({"openslide.mpp-x": "352.8", "openslide.mpp-y": "352.8"}, "352.8"),
        ({"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.5"}, "differ"),
    ],
)
def test_bad_value_in_file(properties: dict[str, str], word: str) -> None:
    mpp, problem = mpp_from_file(properties)
    assert mpp is None
    assert word in problem


@pytest.mark.parametrize(
    ("text", "power"), [("20", 20.0), ("0", None), ("-5", None), ("x", None), ("inf", None)]
)
def test_objective_power(text: str, power: float | None) -> None:
    assert objective_power({"openslide.objective-power": text}) == power
    assert objective_power({}) is None


def test_objective_as_pixel_size() -> None:
    mpp = mpp_from_objective(40)
    assert (mpp.value, mpp.source) == (0.25, "objective-power")
    with pytest.raises(SlideMppError):
        mpp_from_objective(1)


def test_scale() -> None:
    check_scale(0.25, 0.5)
    check_scale(0.6, 0.5)
    with pytest.raises(SlideMppError, match="allow-upsample"):
        check_scale(0.601, 0.5)
    check_scale(0.601, 0.5, allow_upsample=True)
