"""The pages of the panel: what to run, and what can be done with a result."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QSizePolicy, QStackedWidget, QTabBar, QVBoxLayout, QWidget

from napari_xt.keyboard import PAGES, when_pressed, with_key
from napari_xt.scrolled import Scrolled

__all__ = ["Pages"]

_FILLS = 50
"""Share of the panel's free height that a page takes; its neighbour, the empty room, takes 1."""


class Pages(QWidget):
    """Tabs with a page below; the panel is as high as the page that is shown asks for."""

    turned = Signal(QWidget)

    def __init__(self) -> None:
        super().__init__()
        self.tabs = QTabBar()
        self.tabs.setDrawBase(False)
        self.tabs.setExpanding(True)
        self._stack = QStackedWidget()
        self._pages: list[QWidget] = []
        self._filling: list[bool] = []
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        layout.addWidget(self.tabs)
        layout.addWidget(self._stack)
        self.tabs.currentChanged.connect(self._turn)

    def add(self, title: str, page: QWidget, tip: str, *, fills: bool = True) -> None:
        """Add a page behind the others.

        Args:
            title: One word.
            page: What it shows.
            tip: What it is for.
            fills: Whether it takes the panel's free height; other pages are as high as they ask
                for. Both scroll where there is less.
        """
        self._pages.append(page)
        self._filling.append(fills)
        self._stack.addWidget(Scrolled(page))
        index = self.tabs.addTab(title)
        self.tabs.setTabToolTip(index, with_key(tip, PAGES[index]))
        when_pressed(self, PAGES[index], lambda: self.tabs.setCurrentIndex(index))
        self._fit()

    def put_above(self, part: QWidget) -> None:
        """Show something over all pages."""
        layout = self.layout()
        if isinstance(layout, QVBoxLayout):
            layout.insertWidget(0, part)

    @property
    def pages(self) -> dict[str, QWidget]:
        """All pages by their titles."""
        return {self.tabs.tabText(index): page for index, page in enumerate(self._pages)}

    @property
    def current(self) -> QWidget:
        """The page that is shown."""
        return self._pages[self.tabs.currentIndex()]

    def turn_to(self, page: QWidget) -> None:
        """Show a page."""
        self.tabs.setCurrentIndex(self._pages.index(page))

    def _turn(self, index: int) -> None:
        if 0 <= index < len(self._pages):  # the first tab comes before its page
            self._stack.setCurrentIndex(index)
            self._fit()
            self.turned.emit(self._pages[index])

    def _fit(self) -> None:
        """Let the page that is shown alone say how high the stack is."""
        shown = self._stack.currentWidget()
        for index in range(self._stack.count()):
            holder = self._stack.widget(index)
            policy = QSizePolicy.Policy.Preferred if holder is shown else QSizePolicy.Policy.Ignored
            holder.setSizePolicy(QSizePolicy.Policy.Preferred, policy)
        mine = QSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)
        mine.setVerticalStretch(_FILLS if self._filling[self._stack.currentIndex()] else 0)
        self.setSizePolicy(mine)
        self._stack.updateGeometry()
