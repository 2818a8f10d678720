"""Whether the answers are right: on a sample slide that nobody has seen, the nests did it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import shapely

from xt_backend.engine import Engine, RunFinished, RunSpec
from xt_backend.engine.questions import About, Influence, InfluenceMap, Repredicted, Respondent
from xt_backend.engine.questions import WhatIf as WhatIfQuestion
from xt_backend.samples import write_samples
from xt_backend.store import ScoreMap

SEED = 7001
"""Far from those of the training slides of context-demo."""

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Lobule:
    """A lobule with a nest: rows of the score map."""

    nest: Rows
    stroma: Rows


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[About, list[Lobule]]:
    folder = tmp_path_factory.mktemp("truth")
    (sample,) = write_samples(folder, n=1, size_px=3072, seed=SEED)
    spec = RunSpec(slide=sample.slide, model="context-demo", device="cpu", cache=folder / "cache")
    *_, last = Engine().run(spec)
    assert isinstance(last, RunFinished)
    about = About(last.score_map, "context-demo", folder / "cache", device="cpu")
    lobules = list(lobules_of(last.score_map, sample.annotations))
    assert len(lobules) >= 2
    return about, lobules


def lobules_of(score_map: ScoreMap, annotations: Path) -> Iterator[Lobule]:
    """By the annotations; of the stroma those regions that were rightly called reactive."""
    outlines: dict[str, list[shapely.Geometry]] = {}
    for feature in json.loads(annotations.read_text())["features"]:
        name = feature["properties"]["classification"]["name"]
        shape = shapely.make_valid(shapely.geometry.shape(feature["geometry"]))
        outlines.setdefault(name, []).append(shape)
    boxes = shapely.box(*score_map.lattice.boxes(score_map.cells).T.astype(float))

    def share(shape: shapely.Geometry, of: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        found: npt.NDArray[np.float64] = shapely.area(shapely.intersection(boxes, shape)) / of
        return found

    area = shapely.area(boxes)
    any_nest = share(shapely.union_all(outlines["nest"]), area)
    called = score_map.labels() == score_map.classes.index("reactive")
    stromata = shapely.get_parts(shapely.union_all(outlines["reactive"]))
    for nest in outlines["nest"]:
        around = shapely.union_all([part for part in stromata if part.distance(nest) < 20])
        stroma = (share(around, area) > 0.5) & (any_nest == 0) & called
        yield Lobule(
            np.flatnonzero(share(nest, np.full(len(boxes), nest.area)) > 0.02),
            np.flatnonzero(stroma),
        )


def test_without_its_nest_the_stroma_of_a_lobule_is_normal(
    asked: tuple[About, list[Lobule]],
) -> None:
    about, lobules = asked
    normal = about.score_map.classes.index("normal")
    respondent = Respondent()
    shares = []
    for lobule in lobules:
        answer = respondent.answer(WhatIfQuestion(about, lobule.nest))
        assert isinstance(answer, Repredicted)
        shares.append(float((answer.score_map.labels()[lobule.stroma] == normal).mean()))
        # The nests of the other lobules are still there.
        others = np.concatenate([one.stroma for one in lobules if one is not lobule])
        kept = answer.score_map.labels()[others] == about.score_map.labels()[others]
        assert kept.mean() > 0.9
    assert min(shares) > 0.8, shares


@pytest.mark.timeout(900)
def test_the_nest_is_what_the_stroma_of_its_lobule_looked_at(
    asked: tuple[About, list[Lobule]],
) -> None:
    about, lobules = asked
    score_map = about.score_map
    reactive, normal = (score_map.classes.index(name) for name in ("reactive", "normal"))
    respondent = Respondent()
    above_others = []
    for lobule in lobules:
        total, beyond = np.zeros((2, len(score_map)))
        for row in lobule.stroma[1::4]:
            answer = respondent.answer(Influence(about, int(row), reactive))
            assert isinstance(answer, InfluenceMap)
            assert answer.rival_index == normal
            values = np.nan_to_num(answer.values)
            values[row] = 0
            total += values / values.sum()
            # Those that touch it also tell what kind of tissue it is.
            steps = np.abs(score_map.cells - score_map.cells[row]).max(axis=1)
            values[steps <= 1] = 0
            beyond += values / values.sum()
        assert int(beyond.argmax()) in lobule.nest
        above_others.append(float(total[lobule.nest].mean() / total.mean()))
    assert min(above_others) > 5, above_others
