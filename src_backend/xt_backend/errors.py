"""Every error that napari-xt raises on purpose.

    XTError                        root; text is "cause. Way out."
    ├── UsageError                 (ValueError)      bad argument or configuration, exit 2
    │   ├── InputNotFoundError     (FileNotFoundError)
    │   ├── OutputConflictError    (FileExistsError)
    │   └── ModelError             a model that is unknown, refused or not a model
    ├── SlideError                 (OSError)         fails one row, never the batch
    │   ├── SlideOpenError         the file is no slide that can be read
    │   ├── SlideMppError          (ValueError)      pixel size unknown, absurd or unusable
    │   ├── RegionReadError        pixels of one place could not be decoded
    │   ├── UnsupportedSlideError  (ValueError)      readable, but not what the models are for
    │   ├── TooManyFailedRegionsError
    │   └── SlideChangedError      the file changed while it was being read
    ├── AnnotationError            (ValueError)      GeoJSON, labels or masks that cannot be used
    ├── StoreError                 (OSError)         a file written by napari-xt is not usable
    │   ├── StoreCorruptError
    │   └── StoreVersionError
    ├── OutputError                (OSError)         cannot write, exit 5
    │   └── NoSpaceError
    └── EngineError                (RuntimeError)    device, memory or backend process failed
        ├── DeviceError
        ├── OutOfMemoryError
        ├── LossNotFiniteError
        └── BackendDiedError

Each class also inherits the standard kind, so callers may catch either.
"""

from __future__ import annotations

from typing import Any, Self

__all__ = [
    "AnnotationError",
    "BackendDiedError",
    "DeviceError",
    "EngineError",
    "InputNotFoundError",
    "LossNotFiniteError",
    "ModelError",
    "NoSpaceError",
    "OutOfMemoryError",
    "OutputConflictError",
    "OutputError",
    "RegionReadError",
    "SlideChangedError",
    "SlideError",
    "SlideMppError",
    "SlideOpenError",
    "StoreCorruptError",
    "StoreError",
    "StoreVersionError",
    "TooManyFailedRegionsError",
    "UnsupportedSlideError",
    "UsageError",
    "XTError",
]


class XTError(Exception):
    """Root of all errors of this package.

    Args:
        cause: What is wrong, with the offending value, without a final full stop.
        way_out: What the user can do about it, without a final full stop.

    Example:
        >>> import xt_backend as xt
        >>> try:
        ...     xt.score("slide.tiff", model="contxt-demo")
        ... except xt.XTError as error:
        ...     print(error.cause)
        There is no model named 'contxt-demo'
    """

    exit_code = 3

    def __init__(self, cause: str, way_out: str = "") -> None:
        self.cause = cause
        self.way_out = way_out
        super().__init__(str(self))

    def __str__(self) -> str:
        # OSError and KeyError would otherwise format their own arguments.
        if not self.way_out:
            return f"{self.cause}."
        # The cause may begin with a name, which is left as it is.
        return f"{self.cause}. {self.way_out[0].upper()}{self.way_out[1:]}."

    def about(self, name: str) -> Self:
        """The same, its cause beginning with the name of what it is about."""
        if name in self.cause:
            return self
        return type(self)(f"{name}: {self.cause}", self.way_out)

    def __reduce__(self) -> tuple[Any, ...]:
        # The default keeps only one argument; these errors cross process borders.
        return type(self), (self.cause, self.way_out)


class UsageError(XTError, ValueError):
    """A bad argument or configuration, found before any work."""

    exit_code = 2


class InputNotFoundError(UsageError, FileNotFoundError):
    """A path that was named explicitly does not exist."""


class OutputConflictError(UsageError, FileExistsError):
    """The output folder holds another run or foreign files."""


class ModelError(UsageError):
    """A model that is unknown, damaged, refused or not a model at all."""


class SlideError(XTError, OSError):
    """One slide cannot be used; its row fails and the batch goes on."""


class SlideOpenError(SlideError):
    """The file is missing, empty, truncated or in no format that OpenSlide reads."""


class SlideMppError(SlideError, ValueError):
    """The slide's pixel size is unknown, outside sense, or too coarse for the model."""


class RegionReadError(SlideError):
    """The pixels of one place could not be read, even with a fresh handle."""


class UnsupportedSlideError(SlideError, ValueError):
    """The slide can be read but is not what the models are for, e.g. fluorescence."""


class TooManyFailedRegionsError(SlideError):
    """More regions failed than `max_failed_fraction` allows."""


class SlideChangedError(SlideError):
    """The slide file changed while it was being read."""


class AnnotationError(XTError, ValueError):
    """Annotations, ROIs or labels that cannot be used."""

    exit_code = 2


class StoreError(XTError, OSError):
    """A file written by napari-xt (store, score map, run) cannot be used."""


class StoreCorruptError(StoreError):
    """The file is damaged, incomplete or not in the declared layout."""


class StoreVersionError(StoreError):
    """The file was written by a newer version."""


class OutputError(XTError, OSError):
    """The output cannot be written."""

    exit_code = 5


class NoSpaceError(OutputError):
    """No space is left where the output should go."""


class EngineError(XTError, RuntimeError):
    """The device, its memory or the backend process failed."""


class DeviceError(EngineError):
    """The device that was asked for is not there."""

    exit_code = 2


class OutOfMemoryError(EngineError, MemoryError):
    """Even a batch of one region does not fit into memory."""


class LossNotFiniteError(EngineError):
    """The loss of a training became NaN or infinite."""


class BackendDiedError(EngineError):
    """The backend process ended without an answer."""
