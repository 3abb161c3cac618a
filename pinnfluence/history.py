"""The history of a training run: loss terms, errors against a reference, seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pinnfluence.comparison import relative_l2
from pinnfluence.files import write_bytes
from pinnfluence.reference import Reference

Row = list[float | None]


class History:
    """Rows ``step, loss terms, errors, seconds`` in the order of steps, one a step.

    terms: names of the loss terms. reference: for errors; without one there are none.
    """

    def __init__(
        self, terms: Sequence[str], rows: list[Row], reference: Reference | None = None
    ) -> None:
        self.reference, self.rows = reference, rows
        self._error_names = [f"error_{name}" for name in reference.values] if reference else []
        self._first_error = 1 + len(terms)
        self.columns = ["step", *terms, *self._error_names, "seconds"]

    def add(self, step: int, losses: Tensor, errors: Iterable[float], seconds: float) -> None:
        """Add the row of a step. Errors may come later: without any, their places stay empty."""
        known: Row = list(errors)
        if not (self.rows and self.rows[-1][0] == step):
            empty: Row = [None] * len(self._error_names)
            values = losses.double().tolist()
            self.rows.append([step, *values, *(known or empty), round(seconds, 3)])
        elif known:
            self.rows[-1][self._first_error : self._first_error + len(known)] = known

    def loss(self) -> float:
        """The total loss in the last row."""
        return sum(value or 0.0 for value in self.rows[-1][1 : self._first_error])

    def save(self, path: Path) -> None:
        """Write a CSV file atomically; missing values are empty."""
        lines = [",".join(self.columns)]
        lines += [",".join("" if v is None else f"{v:.9g}" for v in row) for row in self.rows]
        write_bytes(path, ("\n".join(lines) + "\n").encode())


def relative_errors(
    net: torch.nn.Module, outputs: Sequence[str], reference: Reference
) -> dict[str, float]:
    """Relative L2 errors of a network's outputs against the reference, weighted by area."""
    values = predict(net, reference.points, outputs)
    return {
        name: relative_l2(values[name], target.astype(np.float64), reference.area)
        for name, target in reference.values.items()
    }


def predict(
    net: torch.nn.Module, points: np.ndarray, names: Sequence[str]
) -> Mapping[str, np.ndarray]:
    """Outputs of a network at points, by name."""
    like = next(net.parameters())
    with torch.no_grad():
        values = net(torch.as_tensor(points).to(like)).double().cpu().numpy()
    return dict(zip(names, values.T, strict=True))
