"""Why a region has no class, in the window's words."""

from __future__ import annotations

from xt_backend.keys import RegionStatus

__all__ = ["WITHOUT_CLASS"]

WITHOUT_CLASS = {
    RegionStatus.SKIPPED: "not scored",
    RegionStatus.READ_ERROR: "could not be read",
    RegionStatus.SCREENED_OUT: "not looked at",
    RegionStatus.LEFT_OUT: "left out",
    RegionStatus.EXCLUDED: "left out: doubtful picture",
}
