"""Where regions are encoded: this machine, or a cluster at an address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFormLayout, QLineEdit, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from napari_xt.kept import keep, read_kept
from napari_xt.style import note_label

if TYPE_CHECKING:
    from xt_backend.engine.elsewhere import Elsewhere

__all__ = ["RemoteForm"]

_KEPT = "elsewhere.json"


class RemoteForm(QWidget):
    """An address, how folders are called there, and how the machine there does.

    Folded away while there is no address; what is entered is kept for the next window.

    Attributes:
        status: How the machine there does; whoever shows this form gives it a row of its own.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.fold = QToolButton()
        self.fold.setText("Where it runs")
        self.fold.setToolTip("Let a stronger machine encode the regions.")
        self.fold.setCheckable(True)
        self.fold.setAutoRaise(True)
        self.fold.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.address = QLineEdit()
        self.address.setPlaceholderText("this machine")
        self.address.setToolTip(
            "Address of a Ray cluster, such as gpu-server:6379; a machine there then does the long "
            "part of a run. Leave it empty to run here."
        )
        self.paths = QLineEdit()
        self.paths.setPlaceholderText("/here=/there; …")
        self.paths.setToolTip(
            "How the folders of your slides are called on the other machine, if it sees them too: "
            "it then reads the slides itself. Otherwise the pixels are sent to it."
        )
        self.status = note_label()
        # A low window shall not squeeze the fields.
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self._fields = QWidget()
        grid = QFormLayout(self._fields)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        grid.addRow("Address", self.address)
        grid.addRow("Folders", self.paths)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.fold)
        layout.addWidget(self._fields)
        self._show_kept()
        self.fold.toggled.connect(self._unfold)
        self.address.editingFinished.connect(self._on_edited)
        self.paths.editingFinished.connect(self._on_edited)
        self._before = self._entered

    def _show_kept(self) -> None:
        kept = read_kept(_KEPT)
        values = kept if isinstance(kept, dict) else {}
        self.address.setText(str(values.get("address", "")))
        self.paths.setText(str(values.get("paths", "")))
        self.fold.setChecked(bool(self.address.text()))
        self._unfold(self.fold.isChecked())

    def _unfold(self, shown: bool) -> None:
        self._fields.setVisible(shown)
        self.status.setVisible(shown and bool(self.status.text()))
        arrow = Qt.ArrowType.DownArrow if shown else Qt.ArrowType.RightArrow
        self.fold.setArrowType(arrow)

    @property
    def _entered(self) -> tuple[str, str]:
        return self.address.text().strip(), self.paths.text().strip()

    def _on_edited(self) -> None:
        """Tell of a change once: leaving a field says so even where nothing was typed."""
        if self._entered == self._before:
            return
        self._before = self._entered
        keep(_KEPT, dict(zip(("address", "paths"), self._entered, strict=True)))
        self.changed.emit()

    def elsewhere(self) -> Elsewhere | None:
        """What is entered; None for this machine.

        Raises:
            UsageError: It is no address, or no pairs of folders.
        """
        from xt_backend.engine.elsewhere import Elsewhere, path_pairs

        address, paths = self._entered
        if not address:
            return None
        return Elsewhere.checked(
            {"address": address, "paths": path_pairs(paths)}, {"address": "The address"}
        )

    def say(self, words: str) -> None:
        """Tell how it stands with the other machine."""
        self.status.setText(words)
        self._unfold(self.fold.isChecked())
