"""Publishing files: complete under their final name, or not there at all.

A file is written beside its final place as ``<name>.<32 hex digits>.partial``, flushed to the
disk, renamed over the final name, and the folder is flushed too. Whoever is killed in between
leaves the previous version intact and at most an orphan that `sweep_partials` removes later.
While it is being written a partial file is locked by its writer, where the file system has locks.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from uuid import uuid4

from xt_backend.errors import NoSpaceError, OutputError, XTError
from xt_backend.keys import RunFile

__all__ = [
    "has_locks",
    "make_folder",
    "publish",
    "publish_bytes",
    "scratch",
    "sweep_partials",
]

_OWN_PARTIAL = re.compile(r"\.[0-9a-f]{32}" + re.escape(RunFile.PARTIAL) + r"$")
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NOT_ALLOWED = frozenset({errno.EACCES, errno.EROFS, errno.EPERM})
# Answers of file systems on which a folder cannot be flushed; the rename is atomic all the same.
_CANNOT_FLUSH = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EBADF})
_WITHOUT_LOCKS_KEEP_S = 3600.0


@contextmanager
def publish(
    path: Path,
    *,
    private: bool = False,
    durable: bool = True,
    needed_bytes: int | None = None,
) -> Iterator[Path]:
    """Give an empty temporary file to write to, and publish it under `path` on leaving.

    On any error in the body the temporary file is removed and what was at `path` stays as it was.
    The body must not rename the temporary file.

    Args:
        path: Final place; its folder must exist.
        private: Make the file readable by its owner only (mode 0600), from the first byte.
        durable: Flush to the disk. Without it a power cut may leave a file that is empty or old.
        needed_bytes: Size that the file will have, if known, to be named in the error.

    Raises:
        NoSpaceError: Disk or quota full, or the file larger than allowed.
        OutputError: The folder or file cannot be written.
    """
    path = Path(path)
    temp = path.with_name(_partial_name(path.name))
    with _as_output_error(path, temp, needed_bytes):
        fd = os.open(temp, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600 if private else 0o666)
    claim = _hold(fd)
    try:
        with _as_output_error(path, temp, needed_bytes):
            yield temp
            if durable:
                with open(temp, "rb+") as file:
                    os.fsync(file.fileno())
            os.replace(temp, path)
            if durable:
                _flush_folder(path.parent)
    finally:
        if claim is not None:
            os.close(claim)
        with contextlib.suppress(OSError):
            temp.unlink(missing_ok=True)


def publish_bytes(path: Path, data: bytes, *, private: bool = False, durable: bool = True) -> None:
    """Publish `data` as the whole content of `path`.

    Args:
        path: Final place; its folder must exist.
        data: The content.
        private: As of `publish`.
        durable: As of `publish`.

    Raises:
        NoSpaceError: As of `publish`, naming the size of `data`.
        OutputError: As of `publish`.
    """
    with (
        publish(path, private=private, durable=durable, needed_bytes=len(data)) as temp,
        open(temp, "wb") as file,
    ):
        file.write(data)


def make_folder(path: Path) -> None:
    """Create a folder and its parents, if they are not there.

    Raises:
        NoSpaceError: The disk or quota is full.
        OutputError: It cannot be created, or something else has the name.
    """
    with _as_output_error(path, path, None):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def scratch(folder: Path | None, n_bytes: int) -> Iterator[IO[bytes]]:
    """A nameless file of zeros that is gone afterwards, whatever happens.

    Its space is taken at once: running out of it later, through a memory map, would end the
    process.

    Args:
        folder: Where it lies; the system's own place when None.
        n_bytes: Its size, above 0.

    Raises:
        NoSpaceError: There is no space for it.
        OutputError: It cannot be made.
    """
    place = Path(tempfile.gettempdir()) if folder is None else folder
    with contextlib.ExitStack() as stack:
        with _as_output_error(place, place, n_bytes):
            file = stack.enter_context(tempfile.TemporaryFile(dir=place, buffering=0))
            _reserve(file.fileno(), n_bytes)
        yield file


def _reserve(fd: int, n_bytes: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, n_bytes)
        return
    zeros = bytes(2**20)
    for first in range(0, n_bytes, len(zeros)):
        os.write(fd, zeros[: n_bytes - first])


def sweep_partials(folder: Path, started: float) -> tuple[Path, ...]:
    """Remove what killed writers left in a folder.

    Only files with this module's own kind of name go, only those last written before `started`
    by the clock of the folder's file system, and only those that no living writer holds. Where
    the file system has no locks, they must also be an hour old.

    Args:
        folder: The folder to sweep; its subfolders are left alone.
        started: Seconds since the epoch on this machine's clock, usually the run's start.

    Returns:
        The files that were removed.
    """
    try:
        partials = [p for p in sorted(folder.iterdir()) if _OWN_PARTIAL.search(p.name)]
        if not partials:
            return ()
        # A file server's clock may differ from ours.
        with tempfile.TemporaryFile(dir=folder) as probe:
            skew = os.fstat(probe.fileno()).st_mtime - time.time()
    except OSError:
        return ()
    removed = []
    for partial in partials:
        with contextlib.suppress(OSError):
            if _remove_orphan(partial, started + skew):
                removed.append(partial)
    return tuple(removed)


def has_locks(folder: Path) -> bool:
    """Whether what is written in a folder is locked meanwhile; False also where it cannot be told.

    Args:
        folder: It has to exist.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            return _try_lock(probe.fileno()) is True
    except OSError:
        return False


def _remove_orphan(partial: Path, before: float) -> bool:
    found = partial.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_mtime >= before:
        return False
    fd = os.open(partial, os.O_RDWR)
    try:
        free = _try_lock(fd)
    finally:
        if os.name == "nt":  # an open file cannot be removed there
            os.close(fd)
    try:
        if free is False or (free is None and found.st_mtime >= before - _WITHOUT_LOCKS_KEEP_S):
            return False
        partial.unlink()
        return True
    finally:
        if os.name != "nt":
            os.close(fd)


def _partial_name(name: str) -> str:
    # File systems allow 255 bytes; a final name near that must still find room.
    kept = name.encode("utf-8", "ignore")[:200].decode("utf-8", "ignore")
    return f"{kept}.{uuid4().hex}{RunFile.PARTIAL}"


if sys.platform == "win32":

    def _try_lock(fd: int) -> bool | None:
        return None

    def _hold(fd: int) -> int | None:
        # A file that is open cannot be renamed there.
        os.close(fd)
        return None

else:
    import fcntl

    def _try_lock(fd: int) -> bool | None:
        """True: now held by us; False: held by another; None: no locks on this file system."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return None
        return True

    def _hold(fd: int) -> int | None:
        _try_lock(fd)
        return fd


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _CANNOT_FLUSH:
            raise
    finally:
        os.close(fd)


@contextmanager
def _as_output_error(path: Path, temp: Path, needed_bytes: int | None) -> Iterator[None]:
    try:
        yield
    except XTError:
        raise
    except OSError as error:
        raise _output_error(error, path, temp, needed_bytes) from error


def _output_error(error: OSError, path: Path, temp: Path, needed_bytes: int | None) -> OutputError:
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno in _NO_SPACE:
        if needed_bytes is None:
            try:
                needed = f"more than {temp.stat().st_size} bytes are needed"
            except OSError:
                needed = "its size is not known yet"
        else:
            needed = f"{needed_bytes} bytes are needed"
        with contextlib.suppress(OSError):
            needed += f", {shutil.disk_usage(path.parent).free} are free"
        return NoSpaceError(
            f"No space left to write {path}: {needed} ({reason})",
            "Free some space or choose another folder, then run again to go on",
        )
    if error.errno in _NOT_ALLOWED:
        return OutputError(
            f"Not allowed to write {path} ({reason})",
            "Check the permissions of the folder or choose another",
        )
    return OutputError(f"Cannot write {path} ({reason})", "Check the folder or choose another")
