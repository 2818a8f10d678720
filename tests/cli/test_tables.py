"""Tables of numbers for people: columns stay apart, whatever the names and the signs."""

from __future__ import annotations

import numpy as np

from xt_backend.cli.card_text import metric_lines
from xt_backend.cli.metrics import aligned, metrics_table
from xt_backend.training.metrics import Metrics, measure

CLASSES = ("a", "invasive ductal carcinoma, grade 3", "c")


def opposite() -> Metrics:
    """Of predictions that are worse than chance."""
    true = np.tile([0, 1, 2], 30)
    predicted = np.tile([2, 1, 0, 2, 0, 0], 15)
    slides = np.arange(90) % 9
    return measure(
        CLASSES, true, np.eye(3)[predicted], predicted, slides, ordered=True, n_bootstrap=50
    )


def test_names_of_any_length_and_negative_numbers() -> None:
    found = opposite()
    assert found.quadratic_kappa is not None
    assert found.quadratic_kappa.high < 0
    head, *rows, about = metrics_table(found, found).splitlines()
    assert about == "90 regions of 9 slides; intervals by drawing slides anew"
    first, second = head.index("with context"), head.index("region only")
    for row in rows:
        assert row[first - 2 : first] == row[second - 2 : second] == "  ", row
        assert row[first] != " "
        assert row[second] != " "
    (kappa,) = [row for row in rows if row.startswith("quadratic kappa")]
    assert kappa[first] == kappa[second] == "-"


def test_the_card_is_aligned_as_well() -> None:
    numbers = opposite().to_dict()
    lines = list(metric_lines({"validation": numbers, "validation_region_only": numbers}))
    (head,) = [line for line in lines if "with context" in line]
    second = head.index("region only")
    (kappa,) = [line for line in lines if "kappa" in line]
    assert kappa[second - 2 : second + 1] == "  -"


def test_rows_may_be_short_or_empty() -> None:
    assert aligned([("", ["one", "two"]), ("name", ["-"]), ("x", [])]) == [
        "      one  two",
        "name  -",
        "x",
    ]
