"""Where runs are worked off: in this process, or in one of its own."""

from .backend import Backend
from .jobs import Job, NamedJob
from .messages import DeviceChoice

__all__ = ["Backend", "DeviceChoice", "Job", "NamedJob"]
