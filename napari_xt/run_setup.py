"""What to run on: slide, model, area and device, and what will happen then."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import napari
from napari.layers import Image, Shapes
from qtpy.QtCore import QObject, QTimer, Signal
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_xt import models
from napari_xt.kept import Choices
from napari_xt.plan import Plan
from napari_xt.preview import planned_words
from napari_xt.rates import machine_of, remember_rate
from napari_xt.roi import roi_from_shapes
from napari_xt.run_form import EVERYTHING, RunForm
from napari_xt.sample_data import SAMPLE_MODEL, is_sample
from napari_xt.slide_layers import pyramid_of, watch_viewer
from napari_xt.slide_menu import SlideMenu
from napari_xt.tissue_edit import TissueEditor
from napari_xt.words import about_slide, missing_mpp, mpp_source
from napari_xt.world import shown_mpp
from xt_backend.errors import UsageError, XTError
from xt_backend.keys import PRODUCT

if TYPE_CHECKING:
    from xt_backend.engine.events import RunFinished, RunPlanned
    from xt_backend.engine.spec import RunSpec

__all__ = ["RunSetup"]

LOOK_AGAIN_MS = 250
"""A change of the form is looked at after this much rest."""


class RunSetup(QObject):
    """Keeps the form in step with the viewer's layers, and says what a run would do.

    Args:
        viewer: Its layers are the slides and areas that can be chosen.
        form: Shows the choices.
        plan: Says what will happen.
        busy: Whether a run is going on; the choices then stay as they are.
        parent: Owner in the sense of Qt.
    """

    changed = Signal()
    slide_changed = Signal()
    slide_removed = Signal(object)

    def __init__(
        self,
        viewer: napari.Viewer,
        form: RunForm,
        plan: Plan,
        busy: Callable[[], bool],
        parent: QWidget,
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._window = parent
        self.form = form
        self._busy = busy
        self._models: list[models.ModelChoice] = []
        self._preselected = ""
        self._choices = Choices()
        self._model_files = self._choices.show(form)
        self._plan = plan
        self._look_later = QTimer(self)
        self._look_later.setSingleShot(True)
        self._look_later.setInterval(LOOK_AGAIN_MS)
        self._look_later.timeout.connect(self._look_ahead)
        self._outdated = False
        self._afterwards = ""
        watch_viewer(viewer)
        viewer.layers.events.inserted.connect(self._on_layer_inserted)
        viewer.layers.events.removed.connect(self._on_layer_removed)
        viewer.layers.events.renamed.connect(self._on_layer_renamed)
        form.slide_changed.connect(self._on_slide_changed)
        form.changed.connect(self._on_form_changed)
        form.draw_requested.connect(self._draw_area)
        form.model_file_requested.connect(self._pick_model_file)
        self.tissue = TissueEditor(
            viewer, form, lambda: self.slide_layer, self._look_later.start, plan.say, self
        )
        self.slide_menu = SlideMenu(viewer, form.open, lambda: self.slide_layer, parent)
        self._list_slides()
        self._list_areas()

    @property
    def ready(self) -> bool:
        """Whether there is a slide of known pixel size and a model."""
        return self._slide_mpp() is not None and self._model is not None

    @property
    def busy(self) -> bool:
        """Whether a run is going on."""
        return self._busy()

    def begin_run(self) -> None:
        """Leave the line of the plan to a run; `busy` is true from now on."""
        self._look_later.stop()
        self._plan.forget()
        self._choices.keep_form(self._model.reference if self._model else "", self.form)
        self._outdated, self._afterwards = False, ""

    def say_plan(self, event: RunPlanned) -> None:
        """Say what the run does that has begun."""
        self._afterwards = planned_words(event, over=True)
        self._plan.say(planned_words(event))

    def end_run(self, event: RunFinished | None) -> None:
        """Say what another run would do; look ahead where this one said nothing, or is outdated.

        Args:
            event: How it ended; None where it failed, or was cancelled before it had begun.
        """
        if event is not None:
            device, address = self.form.device.currentData(), self.form.remote.address.text()
            remember_rate(event, machine_of(device, address.strip()))
        if self._outdated or not self._afterwards:
            self._look_later.start()
        elif not self._look_later.isActive():
            self._plan.say(self._afterwards)

    @property
    def slide_layer(self) -> Image | None:
        """The layer of the chosen slide."""
        layer = self.form.slide.currentData()
        return layer if layer in self._viewer.layers else None

    def choose_slide(self, layer: Image) -> None:
        """Choose a slide that is open."""
        self.form.slide.setCurrentIndex(self.form.slide.findData(layer))

    def _on_layer_inserted(self, event: Any) -> None:
        layer = event.value
        if isinstance(layer, Shapes):
            layer.events.data.connect(self._on_shapes_drawn)
            self._list_areas()
        elif pyramid_of(layer) is not None:
            self._list_slides(prefer=None if self._busy() else layer)

    def _on_layer_removed(self, event: Any) -> None:
        layer = event.value
        if isinstance(layer, Shapes):
            layer.events.data.disconnect(self._on_shapes_drawn)
            self._list_areas()
            self._look_later.start()
        elif pyramid_of(layer) is not None:
            self.slide_removed.emit(layer)
            self._list_slides()

    def _on_layer_renamed(self, event: Any) -> None:
        self._list_slides()
        self._list_areas()

    def _on_shapes_drawn(self, event: Any) -> None:
        if event.source is self.form.area.currentData():
            self._look_later.start()

    def _list_slides(self, prefer: Image | None = None) -> None:
        combo = self.form.slide
        before = combo.currentData()
        found = [layer for layer in self._viewer.layers if pyramid_of(layer) is not None]
        combo.blockSignals(True)
        combo.clear()
        for layer in found:
            combo.addItem(layer.name, layer)
        chosen = next((layer for layer in (prefer, before) if layer in found), None)
        combo.setCurrentIndex(found.index(chosen) if chosen is not None else len(found) - 1)
        combo.blockSignals(False)
        if combo.currentData() is not before or not found:
            self._on_slide_changed()

    def _list_areas(self) -> None:
        # What belongs to the panel, as outlines of corrections do, is no area.
        layers = [
            layer
            for layer in self._viewer.layers
            if isinstance(layer, Shapes) and PRODUCT not in layer.metadata
        ]
        self.form.show_areas([(layer.name, layer) for layer in layers])

    def _on_slide_changed(self) -> None:
        layer = self.slide_layer
        if layer is None:
            self.form.slide_note.setText(
                "Drop a slide onto the window, or use File > Open Sample > xT for whole slides."
            )
        else:
            info = pyramid_of(layer).info
            self.form.slide_note.setText(f"{about_slide(info)}{mpp_source(info)}")
        self.show_mpp()
        self._list_models()
        self.tissue.show_state()
        self._plan.say("")  # what is said is of another slide
        self.slide_changed.emit()
        self._on_form_changed()

    def show_mpp(self) -> None:
        """Show the slide's pixel size: the file's, else the one that was last used."""
        layer = self.slide_layer
        if layer is None:
            self.form.show_mpp(None, stated=True)
            return
        info, used = pyramid_of(layer).info, shown_mpp(layer)
        if info.mpp is not None:
            self.form.show_mpp(info.mpp.value, stated=True)
        else:
            self.form.show_mpp(None if used is None else sum(used) / 2, stated=False)
            self.form.mpp_note.setText(missing_mpp(info))

    def _list_models(self) -> None:
        current = self.form.model.currentData() or ""
        if current == self._preselected:
            current = ""  # nobody chose it: another slide may suit another model better
        self._models = models.choices(self._model_files)
        mpp, upsample = self._slide_mpp(), self.form.upsample.isChecked()
        layer = self.slide_layer
        sample = layer is not None and is_sample(pyramid_of(layer).info.name)
        preferred = SAMPLE_MODEL if sample else self._choices.model
        index = models.choose(self._models, mpp, upsample, current, preferred)
        if index >= 0 and self._models[index].reference != current:
            self._preselected = self._models[index].reference
        self.form.show_models(self._models, index)

    def _slide_mpp(self) -> float | None:
        layer = self.slide_layer
        if layer is None:
            return None
        mpp = pyramid_of(layer).info.mpp
        return self.form.typed_mpp if mpp is None else mpp.value

    @property
    def _model(self) -> models.ModelChoice | None:
        index = self.form.model.currentIndex()
        return self._models[index] if 0 <= index < len(self._models) else None

    def _on_form_changed(self) -> None:
        model = self._model
        self.form.model_note.setText(
            "No model is installed; pick a file with “…”."
            if model is None
            else models.explain(model, self._slide_mpp(), self.form.upsample.isChecked())
        )
        self._look_later.start()
        self.changed.emit()

    def model_of(self, sha256: str) -> str:
        """Name or file of the known model with these weights, empty where there is none."""
        known = (model for model in self._models if model.card is not None)
        return next((m.reference for m in known if m.card.state_sha256 == sha256), "")

    def spec(self, *, keep: bool = True) -> RunSpec:
        """The run as the form asks for it.

        Args:
            keep: Whether it will be run, so that what was painted is kept as a file.

        Raises:
            XTError: Something is missing, or the shapes enclose nothing.
        """
        from xt_backend.engine.spec import RunSpec

        layer, model = self.slide_layer, self._model
        if layer is None:
            raise UsageError("There is no slide to score", "Open a slide first")
        if model is None:
            raise UsageError("There is no model", "Pick a model file with the button beside it")
        if model.card is None:
            raise UsageError(model.problem, "Pick another model")
        slide_mpp, upsample = self._slide_mpp(), self.form.upsample.isChecked()
        if slide_mpp is None:
            raise UsageError("The pixel size is missing", "Enter it above first")
        if not model.fits(slide_mpp, upsample):
            why = models.explain(model, slide_mpp, upsample).removesuffix(".")
            raise UsageError("The model does not fit the slide", why)
        area = self.form.area.currentData()
        roi = roi_from_shapes(area, layer) if isinstance(area, Shapes) else None
        outlined = None if area == EVERYTHING else self.tissue.file(layer, keep=keep)
        return RunSpec(
            slide=pyramid_of(layer).path,
            model=model.reference,
            slide_mpp=self.form.typed_mpp,
            allow_upsample=upsample,
            tissue=EVERYTHING if area == EVERYTHING else str(outlined or "auto"),
            roi=roi,
            device=self.form.device.currentData(),
            elsewhere=self.form.remote.elsewhere(),
            exclude_flagged=self.form.exclude.isChecked(),
        )

    def before(self, spec: RunSpec) -> Callable[[], None]:
        """What is to be done in another thread before a run: writing what was painted."""
        return partial(self.tissue.write_file, spec.tissue)

    def _look_ahead(self) -> None:
        self._outdated = self._busy()
        if self._outdated:
            return
        model = self._model
        if self.slide_layer is None or model is None or model.card is None:
            self._plan.say("")
            return
        try:
            spec = self.spec(keep=False)
            self._plan.look(spec, model.card, self.before(spec))
        except XTError as error:
            self._plan.say(str(error))

    def _draw_area(self) -> None:
        layer = self.slide_layer
        shapes = Shapes(
            ndim=2,
            name="Area to score",
            scale=(1.0, 1.0) if layer is None else layer.scale[-2:],
            units=None if layer is None else layer.units[-2:],
            edge_color="#ffd400",
            face_color="#ffd40014",
            edge_width=_outline_width(layer),
        )
        self._viewer.add_layer(shapes)
        self.form.area.setCurrentIndex(self.form.area.findData(shapes))
        shapes.mode = "add_polygon"

    def _pick_model_file(self) -> None:
        name, _ = QFileDialog.getOpenFileName(
            self._window, "Model file", "", "Models (*.safetensors);;All files (*)"
        )
        if name:
            self.add_model_file(Path(name))

    def add_model_file(self, path: Path) -> None:
        """Offer a model file and select it."""
        reference = models.reference_of(path)
        if reference == str(path) and path not in self._model_files:
            self._model_files = (*self._model_files, path)
        self._list_models()
        self.form.model.setCurrentIndex(self.form.model.findData(reference))


def _outline_width(slide: Image | None) -> float:
    """In px of the slide, so that an outline is seen on the whole slide too."""
    return 4.0 if slide is None else max(slide.data[0].shape[:2]) / 400
