"""A batch that is planned on a machine without the devices of its workers."""

from __future__ import annotations

from xt_backend.config import EncodingOptions
from xt_backend.engine import Device, choose_device
from xt_backend.errors import DeviceError, UsageError

__all__ = ["device_elsewhere"]


def device_elsewhere(options: EncodingOptions, on_gpus: bool, whose: str) -> Device | None:
    """The device of workers on other machines; None where it is as on this one.

    Args:
        options: Of the batch.
        on_gpus: The workers have GPUs.
        whose: They are, in words.

    Raises:
        UsageError: An encoder backend or GPU that can only be chosen where it is.
        DeviceError: The workers have no GPU, and one was asked for.
    """
    asked = options.device
    if asked.startswith("cuda:"):
        raise UsageError(
            f"--device {asked} is a GPU of one machine, and the work is for {whose}",
            "Write --device cuda",
        )
    if asked == "cuda" and not on_gpus:
        raise DeviceError(f"--device cuda was asked for, but {whose} have no GPU", "Leave it out")
    if asked not in ("auto", "cuda") or not on_gpus:
        return None
    try:
        choose_device("cuda", options.precision)
    except DeviceError:
        pass
    else:
        return None
    if options.encoder_backend not in ("auto", "torch"):
        raise UsageError(
            f"--encoder-backend {options.encoder_backend} has to be tried on a GPU, and there is "
            f"none on this machine, only where {whose} are",
            "Start the batch on a machine with a GPU, or write --encoder-backend torch",
        )
    precision = "fp16" if options.precision == "auto" else options.precision
    return Device("cuda:0", precision, f"of {whose}")
