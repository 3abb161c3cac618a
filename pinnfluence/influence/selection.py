"""A set of points that together do most: each that is chosen takes its curvature along."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array

from pinnfluence.influence.target import Target

Columns = Callable[[np.ndarray], np.ndarray]
"""From numbers of rows ``[m]`` to these columns of ``A P A^T``, ``[n_rows, m]``."""


@dataclass(frozen=True)
class Response:
    """How residuals of candidates answer to each other, and numbers of the network to them.

    With the rows A of the candidates' scaled residuals s and the inverse
    ``P = (G + damping I)^-1`` of the points that the training has:

    point: the candidate of each row, rising, ``[n_rows]``. s: ``[n_rows]``. leverages: blocks of
    ``A P A^T`` of each candidate, ``[n, m, m]``, m the largest number of residuals of a point; 0
    where a point has fewer. products: ``E P A^T``, ``[n_targets, n_rows]``, see ``Target``.
    """

    point: np.ndarray
    s: np.ndarray
    leverages: np.ndarray
    products: np.ndarray

    @cached_property
    def _slots(self) -> np.ndarray:
        return slots(self.point)

    def padded(self, rows: np.ndarray) -> np.ndarray:
        """Rows ``[n_rows, ...]`` by point, ``[n, m, ...]``; 0 where a point has fewer."""
        found = np.zeros((*self.leverages.shape[:2], *rows.shape[1:]))
        found[self.point, self._slots] = rows
        return found

    def parts(self) -> np.ndarray:
        """Changes of the numbers by each residual of a point that is added alone.

        ``-(E P A^T)_i ((I + H)^-1 s)_i``, ``[n_targets, n_rows]``; those of a point add up.
        """
        values, vectors = np.linalg.eigh(self.leverages)
        inner = np.einsum("nji,nj->ni", vectors, self.padded(self.s))
        inner /= 1 + np.maximum(values, 0)  # rounding may have made them less
        added = np.einsum("nij,nj->ni", vectors, inner)[self.point, self._slots]
        return -self.products * added

    def totals(self, by_row: np.ndarray) -> np.ndarray:
        """Sums over the rows of each point, ``[..., n_rows]`` to ``[..., n]``."""
        n = len(self.point)
        shape = (n, len(self.leverages))
        total: np.ndarray = by_row @ csr_array((np.ones(n), (np.arange(n), self.point)), shape)
        return total

    def with_point(
        self, chosen: int, columns: np.ndarray
    ) -> tuple[Response, np.ndarray, np.ndarray]:
        """What is left when a candidate has joined the training.

        Its block S = I + H and its columns B of ``A P A^T`` take ``B S^-1 B^T`` from that, and
        ``B S^-1 s`` from the residuals.

        Args:
            columns: B, ``[n_rows, n_rows of the point]``.

        Returns:
            The new response; the change of the numbers ``[n_targets]``; and ``V = B S^-1/2``.
        """
        rows = np.flatnonzero(self.point == chosen)
        H = columns[rows]
        values, vectors = np.linalg.eigh(0.5 * (H + H.T))
        root = vectors / np.sqrt(1 + np.maximum(values, 0))
        V, T = columns @ root, self.products[:, rows] @ root
        step = root.T @ self.s[rows]
        blocks = self.padded(V)
        left = Response(
            self.point,
            self.s - V @ step,
            self.leverages - blocks @ blocks.transpose(0, 2, 1),
            self.products - T @ V.T,
        )
        return left, -T @ step, V


def slots(point: np.ndarray) -> np.ndarray:
    """Where rows stand among those of their point, from its number, rising, ``[n_rows]``."""
    found: np.ndarray = np.arange(len(point)) - np.searchsorted(point, point)
    return found


@dataclass(frozen=True)
class Selection:
    """Candidates that were chosen one after another.

    points: their numbers, ``[n]``, the first the one that does most. squares: the sum of squares
    that they shall lower, before and after each, ``[n + 1]``: exact for a network that is linear in
    its parameters.
    """

    points: np.ndarray
    squares: np.ndarray


def select(response: Response, values: np.ndarray, columns: Columns, n: int) -> Selection:
    """Choose n candidates, one by one, each the one that lowers ``|t + E delta|^2`` most.

    delta is the step of the parameters when all chosen points join the training: with their rows C
    and residuals s, ``-(G + C^T C + damping I)^-1 C^T s``. So a point whose neighbour is chosen
    already counts with what it adds to it. The choice ends where no candidate lowers the sum.

    Args:
        values: t, ``[n_targets]``.
        columns: of ``A P A^T``.
    """
    chosen: list[int] = []
    squares, taken = [float(values @ values)], np.zeros((len(response.s), 0))
    while len(chosen) < n:
        changes = Target(np.zeros(0), values).change(response.totals(response.parts()))
        changes[chosen] = np.inf
        best = int(np.argmin(changes))
        if not changes[best] < 0:
            break
        rows = np.flatnonzero(response.point == best)
        B = columns(rows) - taken @ taken[rows].T
        response, moved, V = response.with_point(best, B)
        values, taken = values + moved, np.hstack([taken, V])
        chosen.append(best)
        squares.append(float(values @ values))
    return Selection(np.array(chosen, int), np.array(squares))
