"""What was found on one slide: its layers, and what the panel says of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_xt.dense_overlay import DenseOverlay
from napari_xt.overlay import Overlay

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

    from napari_xt.turns import Turns
    from xt_backend.engine.events import RegionsDecoded, RunFinished
    from xt_backend.engine.spec import RunSpec
    from xt_backend.store import ScoreMap

__all__ = ["SlideResult", "SlideResults"]


class SlideResult:
    """The last run on one slide, kept while others are looked at.

    Args:
        viewer: Where the layers go.
        slide: Layer of the slide.
        turns: For what need not be done at once.

    Attributes:
        overlay: Layers of the score map; None before there is one.
        dense: The mask or the points over it.
        status: How the last run goes or went.
        words: What is said of the result as a whole.
        done: Regions that the last run is through with.
        total: Regions that it is to score; 0 while that is not known yet.
        in_run: Whether what is shown is of a run that has not ended.
        spec: What the run that is shown was asked for; None for a result that was opened.
        extras: Layers that pages have laid over it; they go with the result.
    """

    def __init__(self, viewer: ViewerModel, slide: Image, turns: Turns) -> None:
        self._viewer = viewer
        self._turns = turns
        self.slide = slide
        self.overlay: Overlay | None = None
        self.dense = DenseOverlay(viewer, slide)
        self.status = ""
        self.words = ""
        self.done, self.total = 0, 1
        self.in_run = False
        self.spec: RunSpec | None = None
        self.extras: list[Layer] = []
        self._own: ScoreMap | None = None
        self._instead: ScoreMap | None = None
        self._look: dict[str, Any] = {}

    @property
    def score_map(self) -> ScoreMap | None:
        """The prediction of the run, None before there is one."""
        if self._own is not None:
            return self._own
        return None if self.overlay is None else self.overlay.score_map

    @property
    def instead(self) -> bool:
        """Whether another prediction is shown in place of the run's."""
        return self._instead is not None

    def show_instead(self, score_map: ScoreMap | None) -> None:
        """Show another prediction of the same regions in the run's layers; None: the run's."""
        self._instead = score_map
        self._show()

    def restyle(self, **look: Any) -> None:
        """Show the prediction with other `thresholds` or `colors`, as of `ScoreMap`."""
        self._look |= look
        self._show()
        if self.overlay is not None and "colors" in look:
            self.overlay.recolor()

    def _show(self) -> None:
        overlay, own = self.overlay, self.score_map
        if overlay is None or own is None:
            return
        self._own = own
        overlay.update(replace(self._instead or own, **self._look))
        if overlay.status is not None:
            overlay.status.visible = bool(overlay.status.data.any())

    def remove_extras(self) -> None:
        """Take away what pages have laid over it."""
        for layer in self.extras:
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
        self.extras.clear()

    @property
    def model(self) -> str:
        """Name or file of the model that the run was made with; empty for one that was opened."""
        return "" if self.spec is None else self.spec.model

    def lay_over(self, score_map: ScoreMap, *, context: bool) -> None:
        """Lay a score map over the slide, in place of the one shown before.

        Args:
            score_map: Of this slide, which is shown with its pixel size.
            context: Whether the prediction with context is shown, or the region alone.
        """
        self.dense.remove()
        self.remove_extras()
        self._own = self._instead = None
        self._look = {}
        if self.overlay is None or not self.overlay.restart(score_map, self.slide):
            if self.overlay is not None:
                self.overlay.remove()
            self.overlay = Overlay(
                self._viewer,
                score_map,
                context=context,
                slide=self.slide,
                later=self._turns.later,
            )
        self.dense.frame = self.overlay.classes.affine.affine_matrix

    def put(self, event: RegionsDecoded) -> None:
        """Show some regions' pixels or points, unless another result took the run's place."""
        if self.overlay is not None and self.in_run:
            if self.dense.layer is None:
                self.overlay.make_way()
            self.dense.put(event, self.overlay.score_map)

    def end(self, event: RunFinished | None) -> None:
        """Show the end of a run.

        Args:
            event: How it ended; None for a failure, which leaves what came before.
        """
        if not self.in_run or self.overlay is None:
            return
        self.in_run = False
        if event is not None:
            self.overlay.update(event.score_map)
        points = None if event is None else event.points
        partial = event is None or event.cancelled
        self.dense.finish(points, self.overlay.score_map, partial=partial)

    def remove(self) -> None:
        """Take the layers out of the viewer."""
        self.dense.remove()
        self.remove_extras()
        if self.overlay is not None:
            self.overlay.remove()


class SlideResults:
    """What was found on the slides of a viewer, each with its layer.

    Args:
        viewer: Where the layers go.
        turns: For what need not be done at once.
    """

    def __init__(self, viewer: ViewerModel, turns: Turns) -> None:
        self._viewer = viewer
        self._turns = turns
        self._by_slide: dict[Image, SlideResult] = {}

    def find(self, slide: Image | None) -> SlideResult | None:
        """What is known of a slide, None before any run on it."""
        return None if slide is None else self._by_slide.get(slide)

    def of(self, slide: Image) -> SlideResult:
        """The same, made if there is nothing yet."""
        if slide not in self._by_slide:
            self._by_slide[slide] = SlideResult(self._viewer, slide, self._turns)
        return self._by_slide[slide]

    def drop(self, slide: Image) -> SlideResult | None:
        """Let go of a slide that was taken away; its layers follow it soon."""
        result = self._by_slide.pop(slide, None)
        if result is not None:
            # Not now: napari may be clearing the whole list.
            self._turns.later(result.remove)
        return result

    def set_context(self, context: bool) -> None:
        """Show all of them with context, or from each region alone."""
        for result in self._by_slide.values():
            if result.overlay is not None:
                result.overlay.set_context(context)
