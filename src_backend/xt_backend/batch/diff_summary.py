"""All slides of two runs together."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xt_backend.outputs.diff import Agreement, SlideDiff, correlation
from xt_backend.store import differences, plain_json

__all__ = ["DiffSummary"]


class DiffSummary:
    """Sums over slides.

    Args:
        run_a: Content of run.json of the first run.
        run_b: Of the second.
    """

    def __init__(self, run_a: Mapping[str, Any], run_b: Mapping[str, Any]) -> None:
        here, there = _made_with(run_a), _made_with(run_b)
        self._differences = [
            {"key": found.key, "a": found.here, "b": found.there}
            for found in differences(here, there)
        ]
        self._models = [run.get("configuration", {}).get("model") for run in (run_a, run_b)]
        self._regions = Agreement((), np.zeros((0, 0), np.int64))
        self._pixels = self._regions
        self._only = [0, 0]

    def add(self, diff: SlideDiff) -> None:
        """Take a slide that was compared."""
        self._regions += diff.regions
        if diff.pixels is not None:
            self._pixels += diff.pixels
        if diff.matching is not None:
            self._only[0] += len(diff.matching.only_a)
            self._only[1] += len(diff.matching.only_b)

    def values(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The summary as plain values; None where there is no number.

        Args:
            rows: Of diff.csv.
        """
        both = [r for r in rows if r.get("predicted_a") and r.get("predicted_b")]
        same = [row["predicted_a"] == row["predicted_b"] for row in both]
        weights = [(row["n_compared"], row["mean_abs_diff"]) for row in rows if "n_compared" in row]
        found = {
            "models": dict(zip("ab", self._models, strict=True)),
            "differences": self._differences,
            "counts": dict(Counter(row["status"] for row in rows)),
            "regions": {
                **_agreement(self._regions),
                "only_a": self._only[0],
                "only_b": self._only[1],
                "mean_abs_diff": _weighted(weights),
            },
            "predicted_same": sum(same) / len(same) if same else None,
            "fractions": _fractions(rows),
        }
        if self._pixels.classes:
            found["pixels"] = _agreement(self._pixels)
        plain: dict[str, Any] = plain_json(found, key="diff")
        return plain


def _made_with(run: Mapping[str, Any]) -> dict[str, Any]:
    """What results may depend on, without why it was chosen."""
    return {
        "configuration": run.get("configuration", {}),
        "versions": run.get("versions", {}),
        "device": run.get("device", {}).get("name"),
        "encoder": run.get("encoder", {}).get("way"),
    }


def _agreement(of: Agreement) -> dict[str, Any]:
    return {
        "compared": of.total,
        "same_class": of.same,
        "kappa": of.kappa,
        "classes": of.classes,
        "counts": of.counts,
    }


def _weighted(pairs: Sequence[tuple[int, float]]) -> float:
    known = [(n, value) for n, value in pairs if n and math.isfinite(value)]
    total = sum(n for n, _ in known)
    return sum(n * value for n, value in known) / total if total else math.nan


def _fractions(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """How the shares of the tissue agree from slide to slide, by class of both models."""
    columns = dict.fromkeys(name for row in rows for name in row if name.startswith("fraction_"))
    made = {}
    for column in columns:
        name = column.removeprefix("fraction_").removesuffix("_a")
        if not column.endswith("_a") or f"fraction_{name}_b" not in columns:
            continue
        pairs = [
            (row[column], row[f"fraction_{name}_b"])
            for row in rows
            if math.isfinite(row.get(column, math.nan) + row.get(f"fraction_{name}_b", math.nan))
        ]
        if pairs:
            a, b = np.array(pairs).T
            made[name] = {
                "mean_abs_diff": float(np.abs(a - b).mean()),
                "correlation": correlation(a, b),
            }
    return made
