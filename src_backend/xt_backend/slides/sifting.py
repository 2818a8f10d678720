"""What is a slide among the files of a folder, told by a process that may die over one of them."""

from __future__ import annotations

import secrets
import subprocess
from contextlib import suppress
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from types import TracebackType

from xt_backend.children import accept, calling_parent, end_child, start_child
from xt_backend.slides.discover import why_no_slide

__all__ = ["Sifter"]

POLITE_S = 2.0


class Sifter:
    """`why_no_slide` for files of strangers: a child process opens them.

    A file over which it dies, or does not answer, counts as a slide, so that its row tells of it.
    The child starts with the first file that is asked about.

    Args:
        give_up_s: No answer takes longer, s.
    """

    def __init__(self, give_up_s: float) -> None:
        self._give_up_s = give_up_s
        self._child: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def __enter__(self) -> Sifter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def __call__(self, path: Path) -> str:
        """Why a file is passed over; empty for slides and for what cannot be told.

        Raises:
            BackendDiedError: No child can be started.
        """
        connection = self._connection or self._start()
        try:
            connection.send(path)
            if connection.poll(self._give_up_s):
                return str(connection.recv())
        except (EOFError, OSError):
            pass
        self._end()
        return ""

    def _start(self) -> Connection:
        key = secrets.token_bytes(32)
        with Listener(authkey=key) as listener:
            self._child = start_child(__name__, str(listener.address), key)
            self._connection = accept(listener, self._child)
        return self._connection

    def _end(self) -> None:
        child, connection = self._child, self._connection
        self._child = self._connection = None
        if connection is not None:
            connection.close()
        if child is None:
            return
        end_child(child, POLITE_S)


def main() -> None:
    """Answer until the parent has no more."""
    with calling_parent() as connection, suppress(EOFError, OSError):
        while True:
            path = connection.recv()
            try:
                answer = why_no_slide(path)
            except Exception:
                answer = ""  # told in its row
            connection.send(answer)


if __name__ == "__main__":
    main()
