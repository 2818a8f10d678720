"""The machine in words: enough to judge numbers by, nothing that names it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from xt_backend.keys import PRODUCT
from xt_backend.store.plain import writer_version

__all__ = ["describe_conditions", "describe_machines", "load", "this_machine"]

_SHARED_ABOVE = 0.5
"""Runnable programs beyond the cores, from which on numbers suffer."""


def this_machine() -> dict[str, Any]:
    """Processor, cores, memory, system and versions, as plain data; no path and no host name."""
    import torch

    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "memory_gib": _memory_gib(),
        "gpu": cuda,
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "timm": version("timm"),
        PRODUCT: writer_version(),
    }


def load() -> float | None:
    """Programs that want a core, averaged over a minute; None where the system does not tell."""
    try:
        return round(os.getloadavg()[0], 1)
    except (AttributeError, OSError):
        return None


def describe_machines(machines: Sequence[Mapping[str, Any]]) -> str:
    """The machines and versions, as one sentence.

    Args:
        machines: As of `this_machine`.
    """
    return f"Measured on {' and on '.join(dict.fromkeys(map(_words, machines)))}."


def describe_conditions(machines: Sequence[Mapping[str, Any]]) -> str:
    """With how many threads, and whether others used the machine meanwhile, in a sentence or two.

    Args:
        machines: As of `this_machine`, each with the ``load`` before and after.
    """
    counts = sorted({machine["threads"] for machine in machines})
    told = f"Threads: {' or '.join(map(str, counts))}."
    loads = [
        (value, value - machine["cores"])
        for machine in machines
        for value in machine.get("load", ())
        if value is not None
    ]
    if loads and max(beyond for _, beyond in loads) > _SHARED_ABOVE:
        least, most = min(loads)[0], max(loads)[0]
        told += (
            f" The machine was shared with other work meanwhile (load average {least:.1f} to "
            f"{most:.1f}): trust the ratios, not the times."
        )
    return told


def _words(machine: Mapping[str, Any]) -> str:
    device = f", {machine['gpu']}" if machine["gpu"] else ", no GPU"
    memory = f", {machine['memory_gib']:g} GiB" if machine["memory_gib"] else ""
    return (
        f"{machine['cores']} cores ({machine['processor']}{memory}{device}), {machine['system']}, "
        f"Python {machine['python']}, torch {machine['torch']}, timm {machine['timm']}, "
        f"{PRODUCT} {machine[PRODUCT]}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    except (AttributeError, OSError, ValueError):
        return None
