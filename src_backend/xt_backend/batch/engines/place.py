"""Whether a worker on another machine can do a job as it was planned."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path

from xt_backend.errors import EngineError

from ..configuration import versions
from ..job import Job

__all__ = ["check_place"]

_MAY_DIFFER = ("python", "system")


def check_place(job: Job, planned: Mapping[str, str]) -> None:
    """Refuse to work where the results would be others, or nobody would see them.

    Args:
        job: With absolute paths.
        planned: `versions` on the machine of the plan.

    Raises:
        EngineError: Another version of a package, or the run directory or model is not there.
    """
    here = versions()
    for name in sorted(planned.keys() | here.keys() - set(_MAY_DIFFER)):
        ours, theirs = here.get(name, "none"), planned.get(name, "none")
        if name not in _MAY_DIFFER and ours != theirs:
            raise EngineError(
                f"The worker on {platform.node()} has {name} {ours}, and the batch was planned "
                f"with {theirs}",
                "Install the same versions on all machines: results depend on them",
            )
    seen = [] if job.folder is None else [("run directory", job.folder.path, Path.is_dir)]
    files = [(what, path, Path.is_file) for what, path in job.files.items()]
    for what, path, there in [*seen, *files]:
        if not there(path):
            raise EngineError(
                f"The worker on {platform.node()} does not see the {what} {path}",
                "Put it, and the slides, where all machines see them under the same path",
            )
