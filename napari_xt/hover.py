"""The class map as a labels layer that also tells what is under the cursor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels

from napari_xt.layers import row_map
from napari_xt.statuses import WITHOUT_CLASS
from xt_backend.keys import RegionStatus

if TYPE_CHECKING:
    import numpy.typing as npt

    from xt_backend.store import ScoreMap

    Floats = npt.NDArray[np.float32]

__all__ = ["ClassMap", "Reading", "View"]


@dataclass(frozen=True)
class View:
    """A score map seen with context or from each region alone, worked out once.

    Attributes:
        labels: (n,) class of each region, -1 where there is none.
        probabilities: (n, C), NaN where there are none.
    """

    labels: npt.NDArray[np.int32]
    probabilities: Floats

    @classmethod
    def of(cls, score_map: ScoreMap, *, context: bool) -> View:
        """Work it out."""
        return cls(
            score_map.labels(region_only=not context),
            score_map.probabilities if context else score_map.region_only_probabilities,
        )


class Reading:
    """What a score map says about one region.

    Attributes:
        row: Row of the score map.
        status: Label of its `RegionStatus`.
        probabilities: (C,) with context, NaN where not scored.
        region_only: (C,) from the region alone, NaN where not scored.
    """

    def __init__(self, score_map: ScoreMap, row: int, with_context: View, alone: View) -> None:
        self.row = row
        self._status = RegionStatus(int(score_map.status[row]))
        self.status = self._status.label
        self.classes = score_map.classes
        self.thresholds = score_map.thresholds
        self.probabilities = with_context.probabilities[row]
        self.region_only = alone.probabilities[row]
        self._label = int(with_context.labels[row])
        self._label_alone = int(alone.labels[row])

    def in_words(self, *, context: bool) -> str:
        """One line for the status bar: the class that the map shows here, and why."""
        shown, label = self.probabilities, self._label
        other, other_label = self.region_only, self._label_alone
        if not context:
            shown, label, other, other_label = other, other_label, shown, label
        if label < 0:
            return WITHOUT_CLASS.get(self._status, "no prediction")
        name = self.classes[label]
        words = f"{name} {shown[label]:.0%}"
        if label != int(shown.argmax()):
            words += f", over its threshold of {self.thresholds[name]:.0%}"
        if other_label >= 0:
            side = "alone" if context else "with context"
            changed = "" if other_label == label else f"{self.classes[other_label]} "
            words += f" ({side} {changed}{other[other_label]:.0%})"
        return words + (", at the slide's edge" if self.status == "edge" else "")


class ClassMap(Labels):
    """Labels layer of the classes; the status bar adds the probability of the region."""

    def __init__(self, data: Any, **options: Any) -> None:
        self.score_map: ScoreMap | None = None
        self.context = True
        self._rows = np.empty((0, 0), np.int64)
        self._views: tuple[View, View] | None = None
        super().__init__(data, **options)

    @property
    def _type_string(self) -> str:
        return "labels"  # to napari and its writers it is an ordinary labels layer

    def follow(self, score_map: ScoreMap, *, context: bool) -> None:
        """Answer from this score map from now on."""
        if self.score_map is None or self.score_map.cells is not score_map.cells:
            self._rows = row_map(score_map)
        self._views = View.of(score_map, context=True), View.of(score_map, context=False)
        self.score_map, self.context = score_map, context

    def reading_at(self, world_position: Any) -> Reading | None:
        """What the model says at a place in world coordinates."""
        score_map, rows, views = self.score_map, self._rows, self._views
        if score_map is None or views is None:
            return None
        row, column = (round(value) for value in self.world_to_data(world_position)[-2:])
        if not (0 <= row < rows.shape[0] and 0 <= column < rows.shape[1]) or rows[row, column] < 0:
            return None
        return Reading(score_map, int(rows[row, column]), *views)

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
