"""What is laid over the slide for each view of a result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_xt.ask.form import View
from napari_xt.ask.layers import difference_colormap, influence_scale, strength_colormap
from xt_backend.engine.questions import context_change, entropy

if TYPE_CHECKING:
    from napari_xt.ask.known import Known
    from xt_backend.store import ScoreMap

__all__ = ["lay_view"]

_MOST_UNSTEADY = 0.3
"""Deviation that is drawn as strongly as there is."""


def lay_view(known: Known, shown: ScoreMap, view: View, class_index: int) -> bool:
    """Lay a view over the slide; the classes where it has nothing to show.

    Args:
        known: What is known of the result, with its layers.
        shown: The prediction that lies there.
        view: What is to be seen.
        class_index: The class that the view is about, where it is about one.

    Returns:
        False where the view's values have to be asked for first.
    """
    layers = known.layers
    if view is View.CHANGE:
        change, _ = context_change(shown)
        name = f"change of {shown.classes[class_index]}"
        layers.show_values(name, change[:, class_index], (-1.0, 1.0), difference_colormap())
    elif view is View.DOUBT:
        layers.show_values("undecided", entropy(shown), (0.0, 1.0), strength_colormap())
    elif view is View.SPREAD and known.spread is not None:
        limits = (0.0, _MOST_UNSTEADY)
        layers.show_values("unsteady", known.spread.deviation, limits, strength_colormap())
    elif view is View.INFLUENCE and known.influence is not None:
        values = influence_scale(known.influence.values, known.influence.row)
        layers.show_values("influence", values, (0.0, 1.0), strength_colormap())
    else:
        layers.show_classes()
    return view is not View.SPREAD or known.spread is not None
