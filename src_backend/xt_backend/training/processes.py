"""One process, or several that were launched together, each with a device of its own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from xt_backend.errors import UsageError

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Processes"]

T = TypeVar("T")


class Processes:
    """Shares the slides of a step among processes and adds up what they found.

    Args:
        accelerator: Of accelerate; None is a single process, and everything stays as it is.
    """

    def __init__(self, accelerator: Accelerator | None = None) -> None:
        self._accelerator = accelerator

    @classmethod
    def launched(cls) -> Processes:
        """Several when `accelerate launch` or torchrun started this one, else one.

        Raises:
            UsageError: There are several, and accelerate is not installed.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
            return cls()
        try:
            from accelerate import Accelerator
        except ImportError as error:
            raise UsageError(
                "Training in several processes needs accelerate, which is not installed",
                "Install it with: pip install 'napari-xt[train]'; or start a single process",
            ) from error
        return cls(Accelerator(cpu=not torch.cuda.is_available()))

    @property
    def count(self) -> int:
        """How many there are."""
        return self._accelerator.num_processes if self._accelerator else 1

    @property
    def is_main(self) -> bool:
        """Whether this one writes the files."""
        return self._accelerator is None or self._accelerator.is_main_process

    @property
    def device(self) -> str | None:
        """The device of this process, such as ``cuda:1``; None where there is a choice."""
        return str(self._accelerator.device) if self._accelerator else None

    def mine(self, items: Sequence[T]) -> Sequence[T]:
        """This process's part of what all have to do."""
        if self._accelerator is None:
            return items
        return items[self._accelerator.process_index :: self.count]

    def add(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The sum over all processes."""
        if self._accelerator is None:
            return values
        device = self._accelerator.device
        # Numbers of pixels: float32 drops units from 16 million on. Apple's GPUs have nothing else.
        dtype = torch.float32 if device.type == "mps" else torch.float64
        here = torch.from_numpy(values).to(device, dtype)
        total: Tensor = self._accelerator.reduce(here, reduction="sum")
        return total.cpu().numpy().astype(np.float64)

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give every process the sum of all gradients."""
        if self._accelerator is None:
            return
        listed = [one for one in parameters if one.requires_grad]
        flat = [
            torch.zeros_like(one).flatten() if one.grad is None else one.grad.flatten()
            for one in listed
        ]
        # A parameter that no process used has to stay without gradient: weight decay skips it.
        used = flat[0].new_tensor([float(one.grad is not None) for one in listed])
        total: Tensor = self._accelerator.reduce(torch.cat([*flat, used]), reduction="sum")
        sums = torch.split(total, [*(one.numel() for one in listed), len(listed)])
        for one, gradient, is_used in zip(listed, sums, sums[-1].tolist(), strict=False):
            one.grad = gradient.view_as(one).clone() if is_used else None

    def agree(self, module: nn.Module) -> None:
        """Give every process the main one's weights."""
        if self._accelerator is None:
            return
        for value in module.state_dict().values():
            mine = value if self.is_main else torch.zeros_like(value)
            value.copy_(self._accelerator.reduce(mine, reduction="sum"))

    def wait(self) -> None:
        """Until all are here."""
        if self._accelerator is not None:
            self._accelerator.wait_for_everyone()
