"""The class map as a labels layer that also tells what is under the cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels

from napari_xt.layers import row_map
from xt_backend.keys import RegionStatus

if TYPE_CHECKING:
    import numpy.typing as npt

    from xt_backend.store import ScoreMap

    Floats = npt.NDArray[np.float32]

__all__ = ["ClassMap", "Reading"]


class Reading:
    """What a score map says about one region.

    Attributes:
        row: Row of the score map.
        status: ``ok``, ``edge``, ``read_error`` or ``skipped``.
        probabilities: (C,) with context, NaN where not scored.
        region_only: (C,) from the region alone, NaN where not scored.
    """

    def __init__(
        self, score_map: ScoreMap, row: int, probabilities: Floats, region_only: Floats
    ) -> None:
        self.row = row
        self.status = RegionStatus(int(score_map.status[row])).label
        self.classes = score_map.classes
        self.probabilities = probabilities[row]
        self.region_only = region_only[row]

    def in_words(self, *, context: bool) -> str:
        """One line for the status bar."""
        shown, other = self.probabilities, self.region_only
        if not context:
            shown, other = other, shown
        if np.isnan(shown).any():
            return {"read_error": "could not be read", "skipped": "not scored"}.get(
                self.status, "no prediction"
            )
        best = int(shown.argmax())
        side = "alone" if context else "with context"
        return f"{self.classes[best]} {shown[best]:.0%} ({side} {other[best]:.0%})" + (
            ", at the slide's edge" if self.status == "edge" else ""
        )


class ClassMap(Labels):
    """Labels layer of the classes; the status bar adds the probability of the region."""

    def __init__(self, data: Any, **options: Any) -> None:
        self.score_map: ScoreMap | None = None
        self.context = True
        self._rows = np.empty((0, 0), np.int64)
        self._probabilities = self._region_only = np.empty((0, 0), np.float32)
        super().__init__(data, **options)

    @property
    def _type_string(self) -> str:
        return "labels"  # to napari and its writers it is an ordinary labels layer

    def follow(self, score_map: ScoreMap, *, context: bool) -> None:
        """Answer from this score map from now on."""
        if self.score_map is None or self.score_map.cells is not score_map.cells:
            self._rows = row_map(score_map)
        self._probabilities = score_map.probabilities
        self._region_only = score_map.region_only_probabilities
        self.score_map, self.context = score_map, context

    def reading_at(self, world_position: Any) -> Reading | None:
        """What the model says at a place in world coordinates."""
        score_map, rows = self.score_map, self._rows
        if score_map is None:
            return None
        row, column = (round(value) for value in self.world_to_data(world_position)[-2:])
        if not (0 <= row < rows.shape[0] and 0 <= column < rows.shape[1]) or rows[row, column] < 0:
            return None
        return Reading(score_map, int(rows[row, column]), self._probabilities, self._region_only)

    def get_status(self, position: Any = None, **options: Any) -> dict[str, str]:
        """Tell napari's status with the class and probabilities of the region added."""
        status = super().get_status(position, **options)
        if position is not None and options.get("world"):
            reading = self.reading_at(position)
            if reading is not None:
                words = reading.in_words(context=self.context)
                for key in ("coordinates", "value"):
                    status[key] = f"{status[key]}; {words}"
        return status
