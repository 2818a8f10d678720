"""The widgets of the page `Ask`; they know nothing of napari and of questions."""

from __future__ import annotations

from enum import Enum, auto

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QSpinBox, QVBoxLayout, QWidget

from napari_xt import style
from napari_xt.ask.gallery import Gallery
from napari_xt.ask.numbers import Numbers
from napari_xt.choice import Choice
from napari_xt.keyboard import BACK, GO, LOOK, PAINT_OUT, STOP, give_key

__all__ = ["AskForm", "Telling", "View"]


class View(Enum):
    """What lies over the slide."""

    CLASSES = auto()
    CHANGE = auto()
    DOUBT = auto()
    SPREAD = auto()
    INFLUENCE = auto()


class Telling(Enum):
    """By what regions are picked out."""

    CERTAIN = auto()
    CHANGED = auto()
    UNDECIDED = auto()


ALONE = (
    "This model judges every region alone. No other region moves its predictions, and painting out "
    "changes none; what differs below between “with context” and “alone” are two ways to judge the "
    "same pixels."
)

_VIEWS = {
    View.CLASSES: ("Classes", "The most probable class of every region."),
    View.CHANGE: (
        "What context changed",
        "Orange: its surroundings make the class above more probable; blue: less.",
    ),
    View.DOUBT: (
        "How undecided",
        "Transparent: certain of one class; yellow: all classes seem alike.",
    ),
    View.SPREAD: (
        "How steady",
        "Transparent: the same however the slide lies on the glass; yellow: turned or mirrored, it "
        "is judged otherwise.",
    ),
    View.INFLUENCE: (
        "What it looked at",
        "Yellow: moves the prediction most; green a tenth, blue a hundredth of that.",
    ),
}


class AskForm(QWidget):
    """Numbers, the questions, what is shown, and the most telling regions."""

    looked = Signal()
    paint_wanted = Signal()
    what_if_wanted = Signal()
    back_wanted = Signal()
    cancelled = Signal()
    view_changed = Signal()
    telling_changed = Signal()
    class_changed = Signal()
    threshold_changed = Signal()
    color_wanted = Signal()

    def __init__(self, page: QWidget) -> None:
        super().__init__()
        self._context = True
        self._picks: list[tuple[Telling, int]] = []
        self.alone = style.note_label(ALONE)
        self.numbers = Numbers()
        self.class_ = Choice("The class that is asked about.")
        # One text for regions and slides: a longer one would widen the panel beyond 300 px.
        self.look = QPushButton("What did it look at?")
        self.look.setToolTip(
            "Shows how much every other region moves the prediction of the region that you have "
            "clicked: what the model saw when it judged it. With a model that judges whole slides "
            "and no region clicked, what moves the prediction of the slide."
        )
        self.paint = QPushButton("Paint out")
        self.paint.setToolTip(
            "Paint over regions on the slide that shall be left out: a fold, a pen mark, a tumour "
            "nest. Nothing is changed before you ask “What if?”."
        )
        self.keep = Choice("Whether the painted regions are left out, or alone are kept.")
        self.keep.addItem("Leave out", False)
        self.keep.addItem("Keep only", True)
        self.what_if = QPushButton("What if?")
        self.what_if.setToolTip(
            "Predicts again as if the painted regions were not there. Takes about a second: no "
            "pixel is read again."
        )
        self.back = style.small_button("Back")
        self.back.setToolTip("Show the prediction of the run again.")
        self.cancel = style.small_button("Stop")
        self.cancel.setToolTip("Want no answer any more.")
        self.answer = QLabel()
        self.answer.setWordWrap(True)
        self.answer.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.shows = Choice("What is laid over the slide.")
        for index, (name, tip) in enumerate(_VIEWS.values()):
            self.shows.addItem(name)
            self.shows.setItemData(index, tip, Qt.ItemDataRole.ToolTipRole)
        self.meaning = style.note_label()
        self.threshold = QSpinBox()
        self.threshold.setRange(0, 100)
        self.threshold.setSuffix(" %")
        self.threshold.setSpecialValueText("not set")
        self.threshold.setToolTip(
            "A region is called by the class above from this probability on, even where another "
            "class is more probable. For this view only; the run stays as it is."
        )
        self.color = style.small_button("Colour")
        self.color.setToolTip("Show the class above in another colour.")
        self.pick = Choice("Which regions are picked out below.")
        self.gallery = Gallery()
        self.none = style.note_label()
        self.none.setText("No region is like that.")
        for button, key in (
            (self.look, LOOK),
            (self.paint, PAINT_OUT),
            (self.what_if, GO),
            (self.back, BACK),
            (self.cancel, STOP),
        ):
            give_key(button, key)
        # They share a row with two words and more: the panel may be as narrow as 300 px.
        for choice in (self.class_, self.keep):
            choice.setMinimumContentsLength(2)
        self._lay_out()
        layout = QVBoxLayout(page)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self)
        self._connect()
        self.explain(False)

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(self.alone)
        layout.addWidget(self.numbers)
        layout.addLayout(_row((self.look, 3), (self.class_, 2)))
        layout.addLayout(_row((self.paint, 0), (self.keep, 1), (self.what_if, 0)))
        layout.addWidget(self.answer)
        layout.addWidget(style.line())
        # Without a label: the names in the list need its room.
        layout.addLayout(_row((self.shows, 1), (self.back, 0), (self.cancel, 0)))
        layout.addWidget(self.meaning)
        layout.addLayout(_row((QLabel("Threshold"), 0), (self.threshold, 1), (self.color, 0)))
        layout.addWidget(style.line())
        layout.addLayout(_row((QLabel("Find"), 0), (self.pick, 1)))
        layout.addWidget(self.none)
        layout.addWidget(self.gallery)
        layout.addStretch(1)

    def _connect(self) -> None:
        self.look.clicked.connect(self.looked)
        self.paint.clicked.connect(self.paint_wanted)
        self.what_if.clicked.connect(self.what_if_wanted)
        self.back.clicked.connect(self.back_wanted)
        self.cancel.clicked.connect(self.cancelled)
        self.shows.currentIndexChanged.connect(lambda _: self.view_changed.emit())
        self.class_.currentIndexChanged.connect(self._on_class_changed)
        self.threshold.valueChanged.connect(lambda _: self.threshold_changed.emit())
        self.color.clicked.connect(self.color_wanted)
        self.pick.currentIndexChanged.connect(lambda _: self.telling_changed.emit())

    def _on_class_changed(self) -> None:
        self.class_changed.emit()
        if self.view is View.CHANGE:
            self.view_changed.emit()

    @property
    def view(self) -> View:
        """What is to lie over the slide."""
        return list(_VIEWS)[self.shows.currentIndex()]

    @property
    def keeps(self) -> bool:
        """Whether the painted regions are those that stay."""
        return bool(self.keep.currentData())

    @property
    def telling(self) -> tuple[Telling, int]:
        """By what regions are picked out, and the class where it is for one."""
        index = self.pick.currentIndex()
        return self._picks[index] if index >= 0 else (Telling.UNDECIDED, 0)

    def offer_classes(self, classes: tuple[str, ...], *, context: bool, around: bool) -> None:
        """Let these classes be asked about.

        Args:
            classes: Their names.
            context: Whether there is a prediction with context.
            around: Whether the model looks at anything but the region itself.
        """
        self._context = context
        self.alone.setVisible(not around)
        names = [f"Most certain: {name}" for name in classes]
        self._picks = [(Telling.CERTAIN, index) for index in range(len(classes))]
        if context:
            names.append("Most changed by context")
            self._picks.append((Telling.CHANGED, 0))
        names.append("Most undecided")
        self._picks.append((Telling.UNDECIDED, 0))
        _fill(self.class_, list(classes))
        _fill(self.pick, names)

    def show_view(self, view: View) -> None:
        """Choose what lies over the slide, without telling."""
        self.shows.blockSignals(True)
        self.shows.setCurrentIndex(list(_VIEWS).index(view))
        self.shows.blockSignals(False)

    def show_threshold(self, share: float | None) -> None:
        """Show the threshold of the class, None where it has none, without telling."""
        self.threshold.blockSignals(True)
        self.threshold.setValue(0 if share is None else round(100 * share))
        self.threshold.blockSignals(False)

    def explain(self, influence: bool) -> None:
        """Say what the colours mean.

        Args:
            influence: Whether it was asked what a region looked at.
        """
        if self.view is View.INFLUENCE and not influence:
            self.meaning.setText("Click a region and ask what it looked at.")
        else:
            self.meaning.setText(_VIEWS[self.view][1])

    def allow(self, *, look: bool, back: bool, busy: bool) -> None:
        """Enable what can be asked now.

        Args:
            look: Whether there is something whose influences can be asked for.
            back: Whether another prediction than the run's is shown.
            busy: Whether a question is being answered.
        """
        for button, wanted in (
            (self.look, look and self._context),
            (self.what_if, self._context),
            (self.back, back),
            (self.cancel, busy),
        ):
            button.setEnabled(wanted)

    def say(self, text: str) -> None:
        """Answer in words; nothing takes no room."""
        self.answer.setText(text)
        self.answer.setVisible(bool(text))

    def say_telling(self, any_: bool) -> None:
        """Say that no region could be picked out, unless one was."""
        self.none.setVisible(not any_)
        self.gallery.setVisible(any_)


def _row(*parts: tuple[QWidget, int]) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(4)
    for part, stretch in parts:
        row.addWidget(part, stretch)
    return row


def _fill(choice: Choice, names: list[str]) -> None:
    """Offer other things, silently; what was chosen by name stays chosen."""
    before = choice.currentText()
    choice.blockSignals(True)
    choice.clear()
    choice.addItems(names)
    choice.setCurrentIndex(max(0, choice.findText(before)))
    choice.blockSignals(False)
