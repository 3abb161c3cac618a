"""Exact scores of a quantity at a few test points, by loss term of the training points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pinnfluence.errors import InputError
from pinnfluence.scores.matrix import ScoreMatrix


class ExactMatrix(ScoreMatrix):
    """Influence ``Inf(f(x_i); z_j)`` of all training points on a quantity f, ``[n_test, n_train]``.

    Float64, and held as a whole: ``values``. In the removal scale,
    ``Inf ~ f(theta without z_j) - f(theta)``: positive means that removing the point raises f.

    Args:
        parts: by loss term of the training points, scores ``[n_test, n_k]`` where it acts.
        rows: by loss term, indices ``[n_k]`` of the points on which it acts.
        train_x: training points ``[n_train, n_inputs]``.
    """

    dtype: np.dtype[Any] = np.dtype(np.float64)

    def __init__(
        self,
        parts: Mapping[str, np.ndarray],
        rows: Mapping[str, np.ndarray],
        train_x: np.ndarray,
    ) -> None:
        self._parts, self.rows, self.train_x = dict(parts), dict(rows), train_x
        self.values = np.zeros((len(next(iter(parts.values()))), len(train_x)))
        for term, part in self._parts.items():
            self.values[:, self.rows[term]] += part
        self.shape = (self.values.shape[0], self.values.shape[1])

    def _block(self, rows: Any, columns: Any) -> np.ndarray:
        return self.values[rows][:, columns].copy()

    def term(self, name: str) -> np.ndarray:
        """Scores ``[n_test, n_k]`` of one loss term at the points ``rows[name]`` where it acts.

        What removing the point from that term alone would do. Under a recipe with leverage, which
        ties the terms of a point together: the term's part of removing the point from all.

        Raises:
            InputError: no such term.
        """
        if name not in self._parts:
            raise InputError(f"no loss term {name!r}, expected one of {', '.join(self._parts)}")
        return self._parts[name]

    def by_term(self) -> dict[str, np.ndarray]:
        """Scores ``[n_test, n_train]`` by loss term of the training points; they sum to the whole.

        Zero where the term does not act; see ``term``.
        """
        whole = {name: np.zeros(self.shape) for name in self._parts}
        for name, part in self._parts.items():
            whole[name][:, self.rows[name]] = part
        return whole

    def top(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k training points of largest ``|Inf|`` at each test point, the largest first.

        Returns:
            Their indices and their scores, both ``[n_test, k]``.

        Raises:
            InputError: k below 1 or above the number of training points.
        """
        if not 1 <= k <= self.shape[1]:
            raise InputError(f"expected k from 1 to {self.shape[1]} training points, found {k}")
        order = np.argsort(-np.abs(self.values), axis=1, kind="stable")[:, :k]
        return order, np.take_along_axis(self.values, order, axis=1)

    def group(self, points: Sequence[int] | np.ndarray) -> np.ndarray:
        """Influence of removing several training points together, ``[n_test]``.

        To first order the sum of their scores: curvature is that of all points, under a recipe
        with leverage that without the one point, never that without the group. So it is good for
        groups that are a small part of them.

        Args:
            points: indices of training points, or a mask ``[n_train]``.

        Raises:
            InputError: indices out of range, or one that is given twice.
        """
        chosen = np.asarray(points)
        n_train = self.shape[1]
        if chosen.dtype == bool and chosen.shape == (n_train,):
            chosen = np.flatnonzero(chosen)
        whole = chosen.dtype.kind in "iu" or chosen.size == 0
        if not whole or chosen.ndim != 1 or len(np.unique(chosen)) < len(chosen):
            raise InputError("expected different indices of training points, or a mask of all")
        if chosen.size and not 0 <= chosen.min() <= chosen.max() < n_train:
            raise InputError(
                f"expected indices from 0 to {n_train - 1}, found {chosen.min()} to {chosen.max()}"
            )
        return self.values[:, chosen.astype(int)].sum(1)
