"""The questions that the panel asks before a run."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from napari_xt.choice import Choice
from napari_xt.models import ModelChoice
from napari_xt.remote_form import RemoteForm
from napari_xt.style import note_label, small_button

__all__ = ["RunForm"]

TISSUE = "tissue"
EVERYTHING = "all"

_DEVICES = {
    "auto": "The graphics card if there is one, else the processor. The panel says which.",
    "cpu": "The processor. Always works, slowest.",
    "cuda": "An NVIDIA graphics card. Fastest.",
    "mps": "The graphics of an Apple computer.",
}


class RunForm(QWidget):
    """Slide, pixel size, model, area, device. Holds choices, knows nothing of napari or runs."""

    slide_changed = Signal()
    changed = Signal()
    draw_requested = Signal()
    model_file_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.slide = Choice("The slide that will be scored. Open one by dropping it here.")
        self.open = small_button("Open")
        self.open.setToolTip(
            "Open a slide, also one of those opened last; look at its label; show it in the "
            "scanner's colours."
        )
        self.slide_note = note_label()
        self.mpp = QDoubleSpinBox()
        self.mpp.setDecimals(4)
        self.mpp.setRange(0.0, 5.0)
        self.mpp.setSingleStep(0.05)
        self.mpp.setSuffix(" µm per pixel")
        self.mpp.setSpecialValueText("unknown: please enter")
        self.mpp.setToolTip(
            "How large one pixel of the scan is. Taken from the file; where the file doesn't say, "
            "enter it here (about 0.25 for a 40x scan, 0.5 for 20x; the scanner's data sheet "
            "knows). A wrong value makes the prediction wrong."
        )
        self.mpp_note = note_label()
        self.model = Choice("What the tissue is judged by. Each model knows a few tissue classes.")
        self.model_file = small_button("…")
        self.model_file.setToolTip("Use a model file (.safetensors) from your disk.")
        self.model_note = note_label()
        self.area = Choice(
            "What is scored: all tissue (it is found by itself), everything scanned with the empty "
            "glass too, or only the tissue inside shapes that you have drawn."
        )
        self.draw = small_button("Draw")
        self.draw.setToolTip("Outline an area on the slide; only the tissue inside it is scored.")
        self.tissue = small_button("Show")
        self.tissue.setToolTip(
            "Outline the tissue that will be scored, to be mended with brush and eraser. What is "
            "outlined is what is scored. Delete its layer to let tissue be found by itself again."
        )
        self.sensitivity = QSlider(Qt.Orientation.Horizontal)
        self.sensitivity.setRange(0, 100)
        self.sensitivity.setValue(50)
        self.sensitivity.setToolTip(
            "Further right: paler places count as tissue too. What you have painted stays."
        )
        self.sensitivity.setEnabled(False)
        self.device = Choice("What computes.")
        for index, (name, words) in enumerate(_DEVICES.items()):
            self.device.addItem(name, name)
            self.device.setItemData(index, words, Qt.ItemDataRole.ToolTipRole)
        self.remote = RemoteForm()
        self.exclude = QCheckBox("Leave out doubtful regions")
        self.exclude.setToolTip(
            "Regions that look blurred, folded or marked with a pen get no class, and the regions "
            "around them are judged without them. They are marked on the slide."
        )
        self.upsample = QCheckBox("Enlarge coarse scans")
        self.upsample.setToolTip(
            "Also take a slide that was scanned more coarsely than the model is used to. Its "
            "pixels are enlarged; fine detail stays missing, so trust the result less."
        )
        self._lay_out()
        self._connect()

    def _lay_out(self) -> None:
        grid = QFormLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setVerticalSpacing(5)
        grid.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        grid.addRow("Slide", _row(self.slide, self.open))
        grid.addRow("", self.slide_note)
        grid.addRow("Pixel size", _column(self.mpp, self.mpp_note))
        grid.addRow("Model", _row(self.model, self.model_file))
        grid.addRow("", self.model_note)
        grid.addRow("Area", _row(self.area, self.draw))
        grid.addRow("Tissue", _row(self.sensitivity, self.tissue))
        grid.addRow("Device", self.device)
        grid.addRow("", self.remote)
        grid.addRow("", self.remote.status)
        grid.addRow("", self.upsample)
        grid.addRow("", self.exclude)

    def _connect(self) -> None:
        self.slide.currentIndexChanged.connect(lambda _: self.slide_changed.emit())
        for combo in (self.model, self.area, self.device):
            combo.currentIndexChanged.connect(lambda _: self.changed.emit())
        self.mpp.valueChanged.connect(lambda _: self.changed.emit())
        self.upsample.toggled.connect(lambda _: self.changed.emit())
        self.exclude.toggled.connect(lambda _: self.changed.emit())
        self.remote.changed.connect(self.changed)
        self.draw.clicked.connect(lambda _: self.draw_requested.emit())
        self.model_file.clicked.connect(lambda _: self.model_file_requested.emit())

    @property
    def typed_mpp(self) -> float | None:
        """Pixel size that the user typed; None while the file's own is shown."""
        if not self.mpp.isEnabled() or self.mpp.value() == 0.0:
            return None
        return float(self.mpp.value())

    def show_mpp(self, slide_mpp: float | None, *, stated: bool) -> None:
        """Show a pixel size; where the file does not state it, it can be entered or mended."""
        self.mpp.blockSignals(True)
        self.mpp.setEnabled(not stated)
        self.mpp_note.setVisible(not stated)
        self.mpp.setValue(0.0 if slide_mpp is None else slide_mpp)
        self.mpp.blockSignals(False)

    def show_models(self, models: list[ModelChoice], index: int) -> None:
        """List the models and select one."""
        self.model.blockSignals(True)
        self.model.clear()
        for place, model in enumerate(models):
            self.model.addItem(model.name, model.reference)
            if model.card is not None:
                classes = ", ".join(item.name for item in model.card.classes)
                words = f"Tells apart: {classes}. {model.card.intended_use}".strip()
            else:
                words = model.problem
            self.model.setItemData(place, words, Qt.ItemDataRole.ToolTipRole)
        self.model.setCurrentIndex(index)
        self.model.blockSignals(False)

    def show_areas(self, shape_layers: list[tuple[str, object]]) -> None:
        """List tissue, everything, and the layers of shapes; keeps the choice if it is there."""
        chosen = self.area.currentData()
        self.area.blockSignals(True)
        self.area.clear()
        self.area.addItem("All tissue", TISSUE)
        self.area.addItem("Everything scanned", EVERYTHING)
        for name, layer in shape_layers:
            self.area.addItem(f"Inside “{name}”", layer)
        known = [self.area.itemData(index) is chosen for index in range(self.area.count())]
        if isinstance(chosen, str):
            known = [self.area.itemData(index) == chosen for index in range(self.area.count())]
        self.area.setCurrentIndex(known.index(True) if True in known else 0)
        self.area.blockSignals(False)


def _row(first: QWidget, second: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(4)
    row.addWidget(first, 1)
    row.addWidget(second)
    return row


def _column(field: QDoubleSpinBox, note: QLabel) -> QVBoxLayout:
    column = QVBoxLayout()
    column.setSpacing(4)
    column.addWidget(field)
    column.addWidget(note)
    return column
