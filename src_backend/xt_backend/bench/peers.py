"""Other tools on the same slide, as they ship, wherever they are installed."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xt_backend.errors import EngineError, InputNotFoundError, XTError
from xt_backend.wording import on_one_line

from .section import Table, number
from .worker import Worker, open_worker

__all__ = [
    "PEERS",
    "Peer",
    "PeerError",
    "check_pythons",
    "compare",
    "find_peer",
    "measure_peer",
    "peer_table",
]

PEERS = {"lazyslide": "LazySlide", "tiatoolbox": "TIAToolbox"}
"""Packages and their names."""

WANTED = 5.0
"""So many times faster than any of them."""

_LIMIT_S = 3600.0
_REASON_LENGTH = 160
_CHILD = Path(__file__).with_name("peer_child.py")
# Of the environment that this package lives in; another one's Python is not to see them.
_OUR_PYTHON = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
_VERSION = """
import importlib.metadata, sys
try:
    print(importlib.metadata.version(sys.argv[1]))
except importlib.metadata.PackageNotFoundError:
    pass
"""


@dataclass(frozen=True)
class Peer:
    """A tool that is installed.

    Attributes:
        name: Of `PEERS`.
        version: Its own.
        python: Of the environment that has it.
    """

    name: str
    version: str
    python: str


def check_pythons(pythons: Sequence[Path]) -> None:
    """Look whether Pythons that were named are there.

    Raises:
        InputNotFoundError: One is not.
    """
    for python in pythons:
        if not python.is_file():
            raise InputNotFoundError(
                f"There is no Python {python}", "Give --peer-python the python of an environment"
            )


def find_peer(name: str, pythons: Sequence[Path]) -> Peer | None:
    """The first environment that has a peer, this one last; None where none has.

    Args:
        name: Of `PEERS`.
        pythons: Of other environments.
    """
    for python in (*map(_absolute, pythons), sys.executable):
        command = [python, "-c", _VERSION, name]
        try:
            told = subprocess.run(
                command, capture_output=True, text=True, timeout=60, env=_variables(python)
            )
        except (OSError, subprocess.SubprocessError):
            continue
        if told.returncode == 0 and (version := told.stdout.strip()):
            return Peer(name, version, python)
    return None


def measure_peer(
    peer: Peer, ours: Worker, asked: Mapping[str, Any], rounds: int, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Both ways over the whole slide, in turn.

    Args:
        peer: The other.
        ours: Our process; it puts its encoder and its features into the ``folder``.
        asked: Slide, ``region_px``, ``mpp``, ``encoder``, and the ``folder`` that both share.
        rounds: Of which the fastest counts.
        tell: Takes a line about what is being done.

    Returns:
        ``version``, ``regions``, ``seconds``, ``seconds_ours``, and how far the features are
        ``apart``, as a share of what tells regions apart. A peer that fails gives the ``reason``
        and nothing but its ``version``.

    Raises:
        EngineError: Our own process failed.
    """
    wanted = {**asked, **ours.ask("hand-over"), "peer": peer.name}
    seconds, seconds_ours = math.inf, math.inf
    try:
        tell("getting ready")
        with _theirs(peer, wanted) as ask:
            for turn in range(rounds):
                tell(f"round {turn + 1} of {rounds}, {PEERS[peer.name]}")
                seconds = min(seconds, ask("run")["seconds"])
                tell(f"round {turn + 1} of {rounds}, ours")
                # As the peer's time: from opening the slide on.
                told = ours.ask("run")
                seconds_ours = min(seconds_ours, told["seconds_open"] + told["seconds"])
            tell("comparing the features")
            ask("keep")
        ours.ask("keep")
        folder = Path(asked["folder"])
        regions, apart = compare(folder / f"{peer.name}.npz", folder / "ours.npz")
    except PeerError as error:
        return {"version": peer.version, "reason": _reason(str(error))}
    return {
        "version": peer.version,
        "regions": regions,
        "seconds": seconds,
        "seconds_ours": seconds_ours,
        "apart": apart,
    }


class PeerError(Exception):
    """Why a peer cannot be measured."""


@contextmanager
def _theirs(peer: Peer, wanted: Mapping[str, Any]) -> Iterator[Callable[[str], dict[str, Any]]]:
    """What gives a peer a job; its errors are not ours."""
    with ExitStack() as stack:
        try:
            worker = stack.enter_context(
                open_worker(
                    [peer.python, "-P", str(_CHILD)],
                    wanted,
                    _variables(peer.python),
                    quiet=True,
                    limit_s=_LIMIT_S,
                )
            )
        except (OSError, EngineError) as error:
            raise PeerError(_cause(error)) from error

        def ask(job: str) -> dict[str, Any]:
            try:
                return worker.ask(job)
            except EngineError as error:
                raise PeerError(_cause(error)) from error

        yield ask


def compare(theirs: Path, ours: Path) -> tuple[int, float]:
    """Features of both of the same regions.

    Args:
        theirs: npz file with ``features`` (n, D) and ``places`` (n, 2), level-0 px.
        ours: Likewise.

    Returns:
        Regions, and the root of the mean squared difference as a share of that between regions.

    Raises:
        PeerError: They are not those of the same regions, or not of the same width.
    """
    (mine, my_places), (other, other_places) = map(_load, (ours, theirs))
    if other.shape != mine.shape:
        raise PeerError(f"gave features of shape {other.shape}, not {mine.shape}")
    if not np.array_equal(my_places, other_places):
        n = int((my_places != other_places).any(axis=1).sum())
        raise PeerError(f"{n} of {len(mine)} regions begin elsewhere")
    spread = np.linalg.norm(mine - mine.mean(axis=0))
    return len(mine), float(np.linalg.norm(other - mine) / spread) if spread else math.nan


def _load(path: Path) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Features and places, from top to bottom and left to right."""
    with np.load(path, allow_pickle=False) as kept:
        features, places = kept["features"].astype(np.float64), kept["places"]
    order = np.lexsort((places[:, 0], places[:, 1]))
    return features[order], places[order]


def peer_table(found: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row a peer, with the reason where it was not measured.

    Args:
        found: As of `measure_peer`, by name of `PEERS`.
    """
    rows = []
    for name, values in found.items():
        title = " ".join([PEERS[name], *filter(None, [values.get("version")])])
        wanted = f"at least {WANTED:g}"
        if "reason" in values:
            rows.append([title, "-", "-", "-", wanted, f"not measured: {values['reason']}"])
            continue
        n, seconds, ours = values["regions"], values["seconds"], values["seconds_ours"]
        rates = [number(n / seconds, 1), number(n / ours, 1), number(seconds / ours)]
        apart = f"features {100 * values['apart']:.2f} % apart"
        rows.append([title, *rates, wanted, apart])
    columns = ("as shipped", "regions/s", "here", "x faster here", "wanted", "remark")
    return Table(columns, rows, "Other tools on the whole slide, from opening it to its features:")


def _absolute(python: Path) -> str:
    # Not resolved: the link is what makes it the Python of its environment.
    return str(python.absolute())


def _variables(python: str) -> dict[str, str]:
    if python == sys.executable:
        return dict(os.environ)
    return {name: value for name, value in os.environ.items() if name not in _OUR_PYTHON}


def _cause(error: Exception) -> str:
    return error.cause if isinstance(error, XTError) else f"{type(error).__name__}: {error}"


def _reason(text: str) -> str:
    """One short line without folders, fit for a table of the page."""
    plain = re.sub(r"(?:[A-Za-z]:)?[/\\](?:[^\s'\":/\\]+[/\\])+", "", text).replace("|", "/")
    line = on_one_line(" ".join(plain.split()))
    return line if len(line) <= _REASON_LENGTH else line[: _REASON_LENGTH - 1] + "…"
