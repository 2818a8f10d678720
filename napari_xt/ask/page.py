"""The page `Ask`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.notifications import show_error
from qtpy.QtWidgets import QWidget

from napari_xt.ask import words
from napari_xt.ask.asked_layers import AskedLayers
from napari_xt.ask.asking import Asking
from napari_xt.ask.clicks import Clicks
from napari_xt.ask.flight import fly_to
from napari_xt.ask.form import AskForm, View
from napari_xt.ask.known import Known
from napari_xt.ask.looks import Looks
from napari_xt.ask.numbers import NOTHING, SLIDE_ASKED
from napari_xt.ask.sights import lay_view
from napari_xt.ask.telling import telling_regions
from napari_xt.models import looks_around
from napari_xt.plain_words import plain
from napari_xt.slide_layers import pyramid_of
from napari_xt.words import judged_alone
from xt_backend.engine.questions import (
    About,
    Influence,
    InfluenceMap,
    Repredicted,
    Spread,
    SpreadMap,
    WhatIf,
)
from xt_backend.errors import XTError

if TYPE_CHECKING:
    from napari_xt.chosen import Chosen
    from napari_xt.slide_result import SlideResult
    from xt_backend.engine.questions import Question
    from xt_backend.store import ScoreMap

__all__ = ["AskPage"]


class AskPage(QWidget):
    """Numbers of a region, and the questions about a result; the answers come from the backend.

    Args:
        chosen: The slide and its result.
    """

    def __init__(self, chosen: Chosen) -> None:
        super().__init__()
        self._chosen = chosen
        self._known: dict[SlideResult, Known] = {}
        self._asked: Known | None = None
        self.form = form = AskForm(self)
        self.asking = Asking(chosen.backend, self)
        clicks = Clicks(chosen.viewer, self.isVisible, self._on_click)
        self.destroyed.connect(lambda: clicks.stop())
        chosen.changed.connect(self._show_chosen)
        chosen.closed.connect(self.stop)
        form.looked.connect(self.ask_influence)
        form.paint_wanted.connect(self._paint)
        form.what_if_wanted.connect(self.ask_what_if)
        form.back_wanted.connect(self.go_back)
        form.view_changed.connect(self._change_view)
        form.telling_changed.connect(self._show_telling)
        form.gallery.chosen.connect(self._go_to)
        form.cancelled.connect(self.stop)
        self.looks = Looks(chosen, form, self._after_change)
        self.asking.answered.connect(self._on_answer)
        self.asking.failed.connect(self._on_failure)
        self.asking.changed.connect(self._show_state)
        self._show_chosen()

    @property
    def known(self) -> Known | None:
        """What is known of the chosen result, None while there is none to ask about."""
        result, score_map = self._chosen.result, self._chosen.score_map
        if result is None or score_map is None or not self._chosen.complete:
            return None
        found = self._known.get(result)
        if found is None or found.score_map is not score_map:
            found = Known(score_map, AskedLayers(self._chosen.viewer, result))
            self._known[result] = found
        return found

    @property
    def _shown(self) -> ScoreMap | None:
        """The prediction that lies over the slide: the run's, or one without some regions."""
        result = self._chosen.result
        return None if result is None or result.overlay is None else result.overlay.score_map

    # ------------------------------------------------------------------ what is asked

    def choose(self, row: int | None) -> None:
        """Choose a region by its row of the score map."""
        known = self.known
        if known is None:
            return
        known.row = row
        known.layers.mark(row)
        if row is not None and known.score_map.labels()[row] >= 0:
            self.form.class_.setCurrentIndex(int(known.score_map.labels()[row]))
        self._show_region()
        self._show_state()

    def ask_influence(self) -> None:
        """Ask what the chosen region's prediction looked at; of the slide's, where none is."""
        known = self.known
        if known is not None:
            index = self.form.class_.currentIndex()
            self._say(words.asked_words(known.score_map, known.row, index))
            self._ask(Influence(self._about(known), known.row, index))

    def ask_what_if(self) -> None:
        """Ask what would be predicted without the regions that are painted."""
        known = self.known
        if known is None:
            return
        removed = known.layers.painted
        if self.form.keeps:
            removed = np.setdiff1d(np.arange(len(known.score_map)), removed)
        if not len(known.layers.painted):
            self._say("Paint some regions first.")
            return
        self._say("Predicting again without them …")
        self._ask(WhatIf(self._about(known), removed))

    def stop(self) -> None:
        """Want no answer to the question that is being answered."""
        if self.asking.busy:
            self.asking.cancel()
            self._say("Stopped.")

    def go_back(self) -> None:
        """Show the run's own prediction again."""
        result = self._chosen.result
        if result is not None:
            result.show_instead(None)
            self._say("")
            self._after_change()

    def _about(self, known: Known) -> About:
        model, spec = self._chosen.model, self._chosen.spec
        if spec is None:  # a result that was opened
            return About(known.score_map, model)
        return About(known.score_map, model, spec.cache, spec.use_cache, spec.own_device)

    def _ask(self, question: Question) -> None:
        if not question.about.model:
            self._on_failure(
                XTError(
                    f"The model {question.about.score_map.model_name} is not at hand",
                    "Pick its file on the page Run with “…”",
                )
            )
            return
        try:
            self._asked = self.known
            self.asking.ask(question)
        except XTError as error:
            self._on_failure(error)

    # ------------------------------------------------------------------ what is answered

    def _on_answer(self, question: Question, answer: Any) -> None:
        known, result = self.known, self._chosen.result
        if known is None or result is None or question.about.score_map is not known.score_map:
            return  # of another slide by now
        if isinstance(answer, InfluenceMap):
            known.influence = answer
            self._say(words.influence_words(answer, known.score_map.classes))
            self._turn_to(View.INFLUENCE)
        elif isinstance(answer, Repredicted):
            result.show_instead(answer.score_map)
            known.layers.put_brush_down()
            self._say(words.what_if_words(known.score_map, answer.score_map))
            self._turn_to(View.CLASSES)
            self._after_change()
        elif isinstance(answer, SpreadMap):
            known.spread = answer
            self._say("")
            self._show_view()
            self._show_region()

    def _on_failure(self, error: XTError) -> None:
        text = plain(str(error))
        self._say(text)
        show_error(text)
        self._show_state()

    def _after_change(self) -> None:
        self._chosen.shown.emit()
        self._show_region()
        self._show_telling()
        self._show_state()

    # ------------------------------------------------------------------ what is shown

    def _show_chosen(self) -> None:
        of = self._chosen.of
        self._known = {one: known for one, known in self._known.items() if of(one.slide) is one}
        known = self.known
        if self._asked is not known:
            self._drop_question()
        self.form.setEnabled(known is not None)
        if known is None:
            self.form.numbers.show_nothing("Run a model on the slide first; then ask about it.")
            self.form.gallery.clear()
            self.form.alone.hide()
            self.form.say("")
            return
        score_map = known.score_map
        self.form.offer_classes(
            score_map.classes,
            context=not judged_alone(score_map),
            around=looks_around(self._chosen.model),
        )
        self.form.say(known.words)
        self.form.show_view(known.view)
        self.form.explain(known.influence is not None)
        self.choose(known.row)
        self.looks.show()
        self._show_telling()

    def _show_region(self) -> None:
        known, shown = self.known, self._shown
        if known is None or shown is None:
            return
        if known.row is None:
            self.form.numbers.show_nothing(
                SLIDE_ASKED if known.score_map.task == "slide" else NOTHING
            )
        else:
            self.form.numbers.show_region(shown, known.row, known.spread)

    def _show_state(self) -> None:
        known, result = self.known, self._chosen.result
        if known is None or result is None:
            return
        scored = known.row is not None and known.score_map.labels()[known.row] >= 0
        whole = known.row is None and known.score_map.task == "slide"
        self.form.allow(look=scored or whole, back=result.instead, busy=self.asking.busy)

    def _drop_question(self) -> None:
        """Want no answer about what is no longer chosen."""
        asked, self._asked = self._asked, None
        if asked is None or not self.asking.busy:
            return
        self.asking.cancel()
        asked.words = ""
        if asked.view is View.SPREAD and asked.spread is None:
            asked.view = View.CLASSES  # which is what lies there

    def _change_view(self) -> None:
        known = self.known
        if known is not None:
            known.view = self.form.view
        self._show_view()

    def _turn_to(self, view: View) -> None:
        self.form.show_view(view)
        self._change_view()

    def _show_view(self) -> None:
        """Lay over the slide what is to be seen."""
        known, shown = self.known, self._shown
        if known is None or shown is None:
            return
        if not lay_view(known, shown, self.form.view, self.form.class_.currentIndex()):
            self._say("Laying the slide on the glass in 8 ways …")
            self._ask(Spread(self._about(known)))
        self.form.explain(known.influence is not None)

    def _show_telling(self) -> None:
        """List the most telling regions of the kind that is chosen."""
        known, shown, slide = self.known, self._shown, self._chosen.slide
        pyramid = pyramid_of(slide)
        if known is None or shown is None or pyramid is None:
            return
        rows, texts = telling_regions(shown, *self.form.telling)
        self.form.gallery.fill(shown, pyramid, rows, texts)
        self.form.say_telling(bool(rows))

    def _go_to(self, row: int) -> None:
        result = self._chosen.result
        if result is not None and result.overlay is not None:
            fly_to(self._chosen.viewer, result.overlay.classes, result.overlay.score_map, row)
            self.choose(row)

    def _on_click(self, place: tuple[float, ...]) -> None:
        result = self._chosen.result
        if self.known is None or result is None or result.overlay is None:
            return
        reading = result.overlay.classes.reading_at(place)
        self.choose(None if reading is None else reading.row)

    def _paint(self) -> None:
        known = self.known
        if known is not None:
            known.layers.paint()
            self._say(
                "Paint over what shall be left out; one touch takes one region. napari's own "
                "tools at the upper left widen the brush, erase, and draw outlines."
            )

    def _say(self, text: str) -> None:
        known = self.known
        if known is not None:
            known.words = text
        self.form.say(text)
