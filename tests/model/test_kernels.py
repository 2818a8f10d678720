"""The kernel of mamba-ssm: a run goes on without it, and says so where it is broken."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator

import pytest

from xt_backend.model.context import kernels


@pytest.fixture(autouse=True)
def _looked_for_anew() -> Iterator[None]:
    kernels._kernel.cache_clear()
    yield
    kernels._kernel.cache_clear()


@pytest.mark.parametrize(
    ("error", "is_told"),
    [
        (ModuleNotFoundError("No module named 'mamba_ssm'"), False),
        (ImportError("undefined symbol: _ZN3c10"), True),
        (OSError("libcudart.so.11.0: cannot open shared object file"), True),
        (AttributeError("module 'triton' has no attribute 'jit'"), True),
        (RuntimeError("0 active drivers"), True),
    ],
)
def test_a_kernel_that_does_not_load_is_done_without(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    is_told: bool,
) -> None:
    def fail(name: str) -> None:
        raise error

    monkeypatch.setattr(importlib, "import_module", fail)
    with caplog.at_level(logging.WARNING):
        assert kernels._kernel() is None
        assert kernels._kernel() is None
    said = [one for one in caplog.records if "mamba-ssm" in one.getMessage()]
    assert len(said) == is_told
