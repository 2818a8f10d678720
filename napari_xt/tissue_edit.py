"""The tissue of a slide as a layer that is painted: what it shows is what a run uses."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels, Layer
from qtpy.QtCore import QObject

from napari_xt.latest_job import LatestJob
from napari_xt.of_slides import OfSlides
from napari_xt.plain_words import plain
from napari_xt.slide_layers import add_over, pyramid_of
from napari_xt.tissue_files import CLASS, COLOR, TissueFiles
from napari_xt.world import shown_mpp
from xt_backend.errors import UsageError, XTError

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.components import ViewerModel

    from napari_xt.run_form import RunForm
    from xt_backend.slides import Evidence, Thumbnail

    Mask = npt.NDArray[np.bool_]

__all__ = ["TissueEditor"]

OVERVIEW_PX = 1024
"""Long side of the picture that tissue is shown and painted on: quick enough for a slider."""

_TISSUE = 1
_CONTOUR_PX = 2
_BRUSH_PX = 20


@dataclass
class _Edited:
    """A slide whose tissue can be painted.

    Attributes:
        viewer: Holds the layer, unless the user took it away.
        slide: Its layer.
        thumbnail: What tissue was looked for on.
        evidence: What `tissue_at` cuts.
        layer: Shows the tissue.
        found: What was found without the user, as it is now.
        painted: Where the user has had a say, whatever is found there.
        sensitivity: From 0 to 1.
    """

    viewer: ViewerModel
    slide: Image
    thumbnail: Thumbnail
    evidence: Evidence
    layer: Labels
    found: Mask
    painted: Mask = field(init=False)
    sensitivity: float = 0.5

    def __post_init__(self) -> None:
        self.painted = np.zeros_like(self.found)

    @property
    def layers(self) -> list[Layer]:
        """The layer, while it is there."""
        return [self.layer] if self.layer in self.viewer.layers else []

    @property
    def shown(self) -> Mask:
        """(h, w) what the layer shows."""
        return np.asarray(self.layer.data) != 0

    def take_strokes(self) -> None:
        """Remember what was painted, also where it was painted back."""
        self.painted |= self.shown != self.found


class TissueEditor(QObject):
    """Shows the tissue of slides as layers, found with any sensitivity and painted over.

    Args:
        viewer: Where the layers go.
        form: Has the button and the slider.
        slide: The layer of the chosen slide.
        changed: Called when the tissue of a slide is another one.
        say: Told why tissue could not be shown.
        parent: Owner in the sense of Qt.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        form: RunForm,
        slide: Callable[[], Image | None],
        changed: Callable[[], None],
        say: Callable[[str], None],
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._form, self._slide = viewer, form, slide
        self._changed, self._say = changed, say
        self._edited: OfSlides[_Edited] = OfSlides(viewer, self)
        self._files = TissueFiles()
        self._look = LatestJob(self._on_looked, self)
        self._cut = LatestJob(self._on_cut, self)
        form.tissue.clicked.connect(self.show)
        form.sensitivity.valueChanged.connect(self._on_slider)
        viewer.layers.events.removed.connect(self._on_layer)
        viewer.layers.events.inserted.connect(self._on_layer)

    def show(self) -> None:
        """Look for the chosen slide's tissue beside the window, and show it as a layer."""
        slide = self._slide()
        if slide is None:
            return
        edited = self._find(slide)
        if edited is not None:
            edited.layer.visible = True
            self._viewer.layers.selection.active = edited.layer
            return
        path, mpp, slide_ref = pyramid_of(slide).path, shown_mpp(slide), weakref.ref(slide)
        self._form.tissue.setEnabled(False)
        self._look.ask(lambda: (slide_ref, *_looked(path, None if mpp is None else sum(mpp) / 2)))

    def show_state(self) -> None:
        """Show the slider as it is for the chosen slide; without a layer there is none to move."""
        edited, slider = self._find(self._slide()), self._form.sensitivity
        slider.blockSignals(True)
        slider.setEnabled(edited is not None)
        slider.setValue(50 if edited is None else round(100 * edited.sensitivity))
        slider.blockSignals(False)
        self._form.tissue.setText("Show" if edited is None else "Paint")
        self._form.tissue.setEnabled(True)

    def file(self, slide: Image, *, keep: bool) -> Path | None:
        """The tissue as a file that `--tissue` takes; None where it is found by itself.

        It may not be there yet: whoever reads it calls what `file_writer` gives first.

        Args:
            slide: The layer of the slide.
            keep: Whether it is for a run, or only to look ahead.

        Raises:
            UsageError: There is no tissue.
        """
        edited = self._find(slide)
        if edited is None:
            return None
        if not edited.shown.any():
            raise UsageError(
                "There is no tissue to score",
                "Paint some, raise the sensitivity, or delete the tissue layer to find it anew",
            )
        info = pyramid_of(slide).info
        return self._files.path(edited.shown, edited.thumbnail, info, keep=keep)

    def file_writer(self, tissue: str) -> Callable[[], None]:
        """Writes the file that a run is to use, in any thread, whatever is painted until then.

        Args:
            tissue: As of `RunSpec`.
        """
        return self._files.writer(tissue)

    def _on_slider(self, value: int) -> None:
        slide = self._slide()
        edited = self._find(slide)
        if edited is None:
            return
        edited.sensitivity = sensitivity = value / 100
        thumbnail, evidence, slide_ref = edited.thumbnail, edited.evidence, weakref.ref(slide)

        def cut() -> tuple[Any, Mask]:
            from xt_backend.slides import tissue_at

            return slide_ref, tissue_at(thumbnail, evidence, sensitivity=sensitivity).mask

        self._cut.ask(cut)

    def _on_layer(self, event: Any) -> None:
        if any(edited.layer is event.value for edited in self._edited.all):
            self.show_state()
            self._changed()

    def _find(self, slide: Image | None) -> _Edited | None:
        edited = self._edited.find(slide)
        return edited if edited is not None and edited.layers else None

    def _on_looked(self, result: Any) -> None:
        if isinstance(result, XTError):
            self.show_state()
            self._say(plain(str(result)))
            return
        slide_ref, thumbnail, evidence, mask = result
        slide = slide_ref()
        if slide is not None and slide in self._viewer.layers and self._find(slide) is None:
            layer = _layer(slide, thumbnail, mask)
            edited = _Edited(self._viewer, slide, thumbnail, evidence, layer, mask)
            layer.events.paint.connect(lambda event: self._on_painted(edited))
            layer.events.labels_update.connect(lambda event: self._on_painted(edited))
            self._edited.put(edited)
            add_over(self._viewer, layer, slide)
            self._viewer.layers.selection.active = layer
            layer.mode = "paint"
            self._changed()
        self.show_state()

    def _on_painted(self, edited: _Edited) -> None:
        edited.take_strokes()
        self._changed()

    def _on_cut(self, result: Any) -> None:
        if isinstance(result, XTError):
            self._say(plain(str(result)))
            return
        slide_ref, mask = result
        edited = self._find(slide_ref())
        if edited is None:
            return
        edited.take_strokes()
        shown = np.where(edited.painted, edited.shown, mask)
        edited.found = mask
        edited.layer.data = shown.astype(np.uint8)
        self._changed()


def _looked(path: Path, mpp: float | None) -> tuple[Thumbnail, Evidence, Mask]:
    from xt_backend.slides import open_slide, tissue_at, weigh

    with open_slide(path) as slide:
        thumbnail = slide.thumbnail(OVERVIEW_PX)
    evidence = weigh(thumbnail, slide_mpp=mpp)
    return thumbnail, evidence, tissue_at(thumbnail, evidence).mask


def _layer(slide: Image, thumbnail: Thumbnail, mask: Mask) -> Labels:
    from napari.utils import DirectLabelColormap

    steps = np.array((thumbnail.scale_y, thumbnail.scale_x))
    # napari counts from the middle of a pixel: that of the first one lies further in.
    middle = (steps - 1) / 2
    colors: dict[int | None, Any] = {None: COLOR, 0: "transparent", _TISSUE: COLOR}
    layer = Labels(
        mask.astype(np.uint8),
        name=f"{CLASS} — {pyramid_of(slide).info.name}",
        scale=np.asarray(slide.scale[-2:]) * steps,
        translate=np.asarray(slide.translate[-2:]) + np.asarray(slide.scale[-2:]) * middle,
        units=slide.units[-2:],
        affine=slide.affine,
        colormap=DirectLabelColormap(color_dict=colors),
        opacity=0.9,
        blending="translucent",
    )
    layer.contour = _CONTOUR_PX
    layer.brush_size = _BRUSH_PX
    layer.selected_label = _TISSUE
    return layer
