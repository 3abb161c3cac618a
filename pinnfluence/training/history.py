"""The history of a training run: loss terms, errors against a reference, seconds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from pinnfluence.errors import InputError
from pinnfluence.storage.files import write_bytes

Row = list[float | None]

ERROR = "error_"
"""Columns with this prefix are relative L2 errors of an output."""

FRESH = "fresh_loss"
"""The column of the loss at points that are never trained on."""


class History:
    """Rows ``step, loss terms, errors, seconds`` in the order of steps, one a step.

    terms: names of the loss terms. errors: names of the columns of what is known of the error.
    """

    def __init__(self, terms: Sequence[str], rows: list[Row], errors: Sequence[str] = ()) -> None:
        self.rows, self._n_errors, self._first_error = rows, len(errors), 1 + len(terms)
        self.columns = ["step", *terms, *errors, "seconds"]

    def add(self, step: int, losses: Tensor, errors: Iterable[float], seconds: float) -> None:
        """Add the row of a step. Errors may come later: without any, their places stay empty."""
        known: Row = list(errors)
        if not (self.rows and self.rows[-1][0] == step):
            empty: Row = [None] * self._n_errors
            values = losses.cpu().double().tolist()
            self.rows.append([step, *values, *(known or empty), round(seconds, 3)])
        elif known:
            self.rows[-1][self._first_error : self._first_error + len(known)] = known

    def loss(self, step: int | None = None) -> float:
        """The total loss in the row of a step, by default the last."""
        row = next(row for row in reversed(self.rows) if step in (None, row[0]))
        return sum(value or 0.0 for value in row[1 : self._first_error])

    def last_errors(self) -> int:
        """The step of the last row with errors; 0 without one."""
        rows = (row for row in reversed(self.rows) if row[-2] is not None)
        return int(next(rows, [0])[0] or 0)

    def save(self, path: Path) -> None:
        """Write a CSV file atomically; missing values are empty."""
        lines = [",".join(self.columns)]
        lines += [",".join("" if v is None else f"{v:.9g}" for v in row) for row in self.rows]
        write_bytes(path, ("\n".join(lines) + "\n").encode())


def read_history(path: Path) -> dict[str, np.ndarray]:
    """Columns of a ``history.csv`` by name, NaN where a value is missing; empty without a file.

    Raises:
        InputError: not such a file.
    """
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8") as lines:
            names = next(lines).strip().split(",")
            rows = [[float(cell or "nan") for cell in line.strip().split(",")] for line in lines]
        columns = dict(zip(names, np.array(rows).reshape(-1, len(names)).T, strict=True))
    except (StopIteration, ValueError):
        columns = {}
    if not {"step", "seconds"} <= set(columns) or not len(columns["step"]):
        raise InputError(f"{path} is not the history of a training run; repair or remove it")
    return columns


def loss_terms(history: Iterable[str]) -> list[str]:
    """The columns of a history that are loss terms."""
    others = ("step", "seconds", FRESH)
    return [name for name in history if name not in others and not name.startswith(ERROR)]
