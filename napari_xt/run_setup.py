"""What to run on: slide, model, area and device, and what will happen then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import napari
from napari.layers import Image
from qtpy.QtCore import QObject, QTimer, Signal
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_xt.areas import Areas
from napari_xt.kept import Choices
from napari_xt.offered_models import OfferedModels
from napari_xt.plan import Plan
from napari_xt.preview import planned_words
from napari_xt.rates import machine_of, remember_rate
from napari_xt.run_form import EVERYTHING, RunForm
from napari_xt.sample_data import is_sample
from napari_xt.slide_layers import pyramid_of, watch_viewer
from napari_xt.slide_menu import SlideMenu
from napari_xt.tissue_edit import TissueEditor
from napari_xt.words import about_slide, missing_mpp, mpp_source
from napari_xt.world import shown_mpp
from xt_backend.errors import UsageError, XTError

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
        busy: Whether a run is going on; a slide that is opened meanwhile is not chosen by itself.
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
        self.models = OfferedModels(form, Choices())
        self._plan = plan
        self._look_later = QTimer(self)
        self._look_later.setSingleShot(True)
        self._look_later.setInterval(LOOK_AGAIN_MS)
        self._look_later.timeout.connect(self._look_ahead)
        self._run: tuple[Image, RunSpec] | None = None
        self._outdated = False
        self._meanwhile = self._afterwards = ""
        watch_viewer(viewer)
        viewer.layers.events.inserted.connect(self._on_layer_inserted)
        viewer.layers.events.removed.connect(self._on_layer_removed)
        viewer.layers.events.renamed.connect(self._on_layer_renamed)
        form.slide_changed.connect(self._on_slide_changed)
        form.changed.connect(self._on_form_changed)
        form.model_file_requested.connect(self._pick_model_file)
        look_later = self._look_later.start
        self.tissue = TissueEditor(viewer, form, self._slide, look_later, plan.say, self)
        self.areas = Areas(viewer, form, self._slide, look_later)
        self.slide_menu = SlideMenu(viewer, form.open, self._slide, parent)
        self._list_slides()

    @property
    def ready(self) -> bool:
        """Whether there is a slide of known pixel size and a model."""
        return self._slide_mpp() is not None and self.models.chosen is not None

    @property
    def busy(self) -> bool:
        """Whether a run is going on."""
        return self._busy()

    # ------------------------------------------------------------------ a run, and what is said

    def begin_run(self, slide: Image, spec: RunSpec) -> None:
        """Leave the line of the plan to a run while its slide is the chosen one."""
        self._run = slide, spec
        self._outdated, self._meanwhile, self._afterwards = False, "", ""
        if slide is self.slide_layer:
            self._look_later.stop()
            self._plan.forget()

    def say_plan(self, event: RunPlanned) -> None:
        """Say what the run does that has begun."""
        self._meanwhile = planned_words(event)
        self._afterwards = planned_words(event, over=True)
        if self._is_run_here:
            self._plan.say(self._meanwhile)

    def end_run(self, event: RunFinished | None) -> None:
        """Say what another run would do; look ahead where this one said nothing, or is outdated.

        Args:
            event: How it ended; None where it failed, or was cancelled before it had begun.
        """
        here, self._run, run = self._is_run_here, None, self._run
        if event is not None and run is not None:
            spec = run[1]
            address = "" if spec.elsewhere is None else spec.elsewhere.address
            remember_rate(event, machine_of(spec.device, address))
        if not here or self._outdated or not self._afterwards:
            self._look_later.start()
        elif not self._look_later.isActive():
            self._plan.say(self._afterwards)

    @property
    def _is_run_here(self) -> bool:
        """Whether the chosen slide is the one that is being run."""
        return self._run is not None and self._run[0] is self.slide_layer

    def _look_ahead(self) -> None:
        if self._is_run_here:
            self._outdated = True
            if self._meanwhile:
                self._plan.say(self._meanwhile)  # another slide was looked at in between
            return
        model = self.models.chosen
        if self.slide_layer is None or model is None or model.card is None:
            self._plan.say("")
            return
        try:
            spec = self.spec(keep=False)
            self._plan.look(spec, model.card, self.before(spec))
        except XTError as error:
            self._plan.say(str(error))

    # ------------------------------------------------------------------ the slide

    @property
    def slide_layer(self) -> Image | None:
        """The layer of the chosen slide."""
        layer = self.form.slide.currentData()
        return layer if layer in self._viewer.layers else None

    def _slide(self) -> Image | None:
        return self.slide_layer

    def choose_slide(self, layer: Image) -> None:
        """Choose a slide that is open."""
        self.form.slide.setCurrentIndex(self.form.slide.findData(layer))

    def _on_layer_inserted(self, event: Any) -> None:
        if pyramid_of(event.value) is not None:
            self._list_slides(prefer=None if self._busy() else event.value)

    def _on_layer_removed(self, event: Any) -> None:
        if pyramid_of(event.value) is not None:
            self.slide_removed.emit(event.value)
            self._list_slides()

    def _on_layer_renamed(self, event: Any) -> None:
        self._list_slides()

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

    def _slide_mpp(self) -> float | None:
        layer = self.slide_layer
        if layer is None:
            return None
        mpp = pyramid_of(layer).info.mpp
        return self.form.typed_mpp if mpp is None else mpp.value

    # ------------------------------------------------------------------ the model

    def _list_models(self) -> None:
        layer = self.slide_layer
        sample = layer is not None and is_sample(pyramid_of(layer).info.name)
        self.models.show(self._slide_mpp(), sample=sample)

    def _pick_model_file(self) -> None:
        name, _ = QFileDialog.getOpenFileName(
            self._window, "Model file", "", "Models (*.safetensors);;All files (*)"
        )
        if name:
            self.add_model_file(Path(name))

    def add_model_file(self, path: Path) -> None:
        """Offer a model file and select it."""
        reference = self.models.add_file(path)
        self._list_models()
        self.form.model.setCurrentIndex(self.form.model.findData(reference))

    # ------------------------------------------------------------------ all of it

    def _on_form_changed(self) -> None:
        self.models.explain(self._slide_mpp())
        self._look_later.start()
        self.changed.emit()

    def spec(self, *, keep: bool = True) -> RunSpec:
        """The run as the form asks for it.

        Args:
            keep: Whether it will be run, so that what was painted is kept as a file.

        Raises:
            XTError: Something is missing, or the shapes enclose nothing.
        """
        from xt_backend.engine.spec import RunSpec

        layer = self.slide_layer
        if layer is None:
            raise UsageError("There is no slide to score", "Open a slide first")
        model = self.models.for_slide(self._slide_mpp())
        roi = self.areas.roi(layer)
        everything = self.form.area.currentData() == EVERYTHING
        outlined = None if everything else self.tissue.file(layer, keep=keep)
        return RunSpec(
            slide=pyramid_of(layer).path,
            model=model.reference,
            slide_mpp=self.form.typed_mpp,
            allow_upsample=self.form.upsample.isChecked(),
            tissue=EVERYTHING if everything else str(outlined or "auto"),
            roi=roi,
            device=self.form.device.currentData(),
            elsewhere=self.form.remote.elsewhere(),
            exclude_flagged=self.form.exclude.isChecked(),
        )

    def before(self, spec: RunSpec) -> Callable[[], None]:
        """What is to be done in another thread before a run: writing what was painted."""
        return self.tissue.file_writer(spec.tissue)
