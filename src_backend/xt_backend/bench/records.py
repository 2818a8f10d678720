"""Measurements in a file, kept one by one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xt_backend.errors import StoreCorruptError, StoreVersionError
from xt_backend.publishing import make_folder, publish_bytes
from xt_backend.store.plain import plain_json

from .benchmark import Case, Result

__all__ = ["RESULTS", "Records"]

RESULTS = "results.json"
FORMAT = 1


class Records:
    """What was measured, in ``results.json`` of a folder.

    Args:
        folder: Made with the first measurement.

    Raises:
        StoreCorruptError: The file is there and cannot be read.
        StoreVersionError: It was written by a newer version.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / RESULTS
        self._rows = self._read()

    def add(
        self,
        benchmark: str,
        recipe: Mapping[str, Any],
        case: Case,
        values: Mapping[str, Any],
        machine: Mapping[str, Any],
    ) -> None:
        """Keep a measurement in place of an older one of the same case; written at once.

        Raises:
            OutputError: The file cannot be written.
        """
        row = plain_json(
            {
                "benchmark": benchmark,
                "recipe": recipe,
                "case": case,
                "values": values,
                "machine": machine,
            }
        )
        same = _key_of(row)
        # Another run may have added to the file meanwhile.
        self._rows = [*(other for other in self._read() if _key_of(other) != same), row]
        self._save()

    def results(self, benchmark: str, recipe: Mapping[str, Any]) -> list[Result]:
        """All measurements of one benchmark and recipe, in the order in which they were made."""
        return [Result(row["case"], row["values"]) for row in self._of(benchmark, recipe)]

    def machines(self, benchmark: str, recipe: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Where each of `results` was measured."""
        return [row["machine"] for row in self._of(benchmark, recipe)]

    def _read(self) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        way_out = f"Remove {self._path.name}, or choose another --out"
        try:
            document = json.loads(self._path.read_text(encoding="utf-8"))
            found, rows = document["format"], document["measurements"]
            keys = {"benchmark", "recipe", "case", "values", "machine"}
            whole = isinstance(rows, list) and all(keys <= row.keys() for row in rows)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreCorruptError(f"{self._path.name} is damaged", way_out) from error
        if found != FORMAT:
            raise StoreVersionError(
                f"{self._path.name} has format {found}, not {FORMAT}", "Upgrade napari-xt"
            )
        if not whole:
            raise StoreCorruptError(f"{self._path.name} is damaged", way_out)
        return list(rows)

    def _of(self, benchmark: str, recipe: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
        wanted = plain_json(recipe)
        return [
            row for row in self._rows if row["benchmark"] == benchmark and row["recipe"] == wanted
        ]

    def _save(self) -> None:
        make_folder(self._path.parent)
        # One line a measurement, so that versions of the file can be compared.
        lines = [json.dumps(row, allow_nan=False, ensure_ascii=False) for row in self._rows]
        text = f'{{"format": {FORMAT}, "measurements": [\n' + ",\n".join(lines) + "\n]}\n"
        publish_bytes(self._path, text.encode())


def _key_of(row: Mapping[str, Any]) -> str:
    return json.dumps([row["benchmark"], row["recipe"], row["case"]], sort_keys=True)
