"""Where runs are worked off: in this process, or in one of its own."""

from .backend import Backend
from .messages import DeviceChoice

__all__ = ["Backend", "DeviceChoice"]
