"""Initialisation that does not depend on, and does not disturb, the global random state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["seeded"]


@contextmanager
def seeded(generator: torch.Generator | None) -> Iterator[None]:
    """Let modules built inside draw their weights from a generator.

    Args:
        generator: Advanced by one draw. None stands for seed 0.
    """
    seed = 0
    if generator is not None:
        drawn = torch.randint(2**62, (), generator=generator, device=generator.device)
        seed = int(drawn)
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would also reseed accelerators, which fork_rng does not restore here.
        torch.default_generator.manual_seed(seed)
        yield
