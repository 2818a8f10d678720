"""The least and the greatest within a square, against scipy's slower filters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage as ndi

from xt_backend.slides.box_filter import box_least, box_most

PICTURES = arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)))


@pytest.mark.parametrize(
    ("ours", "scipys"), [(box_least, ndi.minimum_filter), (box_most, ndi.maximum_filter)]
)
@given(picture=PICTURES, half_px=st.integers(0, 14))
def test_it_is_scipys_filter(
    ours: Callable[..., Any], scipys: Callable[..., Any], picture: Any, half_px: int
) -> None:
    found = ours(picture, 2 * half_px + 1)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, scipys(picture, 2 * half_px + 1, mode="nearest"))
