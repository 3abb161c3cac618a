"""A set of points that together do most: each that is chosen takes its curvature along."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from pinnfluence.influence.point_rows import Blocks, PointRows
from pinnfluence.influence.target import Target

Columns = Callable[[np.ndarray], np.ndarray]
"""From numbers of rows ``[m]`` to these columns of ``A P A^T``, ``[n_rows, m]``."""


@dataclass(frozen=True)
class Response:
    """How residuals of candidates answer to each other, and numbers of the network to them.

    With the rows A of the candidates' scaled residuals s and the inverse
    ``P = (G + damping I)^-1`` of the points that the training has:

    s: ``[n_rows]``. leverages: blocks of ``A P A^T`` of each candidate. products: ``E P A^T``,
    ``[n_targets, n_rows]``, see ``Target``.
    """

    s: np.ndarray
    leverages: Blocks
    products: np.ndarray

    @classmethod
    def of(cls, rows: PointRows, solved: np.ndarray, gradients: np.ndarray) -> Response:
        """Of candidates' rows, with ``solved = P A^T`` and the targets' gradients E."""
        return cls(rows.s, rows.leverages(solved), gradients @ solved)

    @classmethod
    def joined(cls, parts: Sequence[Response]) -> Response:
        """Of several sets of candidates, one set after another."""
        return cls(
            np.concatenate([part.s for part in parts]),
            Blocks.joined([part.leverages for part in parts]),
            np.hstack([part.products for part in parts]),
        )

    @property
    def point(self) -> np.ndarray:
        """The candidate of each row, rising, ``[n_rows]``."""
        return self.leverages.point

    def parts(self) -> np.ndarray:
        """Changes of the numbers by each residual of a point that is added alone.

        ``-(E P A^T)_i ((I + H)^-1 s)_i``, ``[n_targets, n_rows]``; those of a point add up.
        """
        return -self.products * self.leverages.filtered(self.s, lambda h: 1 / (1 + h))

    def totals(self, by_row: np.ndarray) -> np.ndarray:
        """Sums over the rows of each point, ``[..., n_rows]`` to ``[..., n]``."""
        n = len(self.point)
        shape = (n, len(self.leverages.matrices))
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
        left = Response(self.s - V @ step, self.leverages.without(V), self.products - T @ V.T)
        return left, -T @ step, V


@dataclass(frozen=True)
class Selection:
    """Candidates that were chosen one after another.

    points: their numbers, ``[n]``, the first the one that does most. squares: the sum of squares
    that they shall lower, before and after each, ``[n + 1]``: exact for a network that is linear in
    its parameters.
    """

    points: np.ndarray
    squares: np.ndarray


Gains = Callable[[Response, np.ndarray], np.ndarray]
"""From what is left and the values t to what choosing each candidate would bring, ``[n]``."""


def lowered(response: Response, values: np.ndarray) -> np.ndarray:
    """By how much a candidate lowers ``|t + E delta|^2``."""
    return -Target(np.zeros(0), values).change(response.totals(response.parts()))


def residual_left(response: Response, values: np.ndarray) -> np.ndarray:
    """The squared residual of a candidate, as it would be when the chosen ones have joined.

    To choose the largest one each time is the f-greedy choice of interpolation points in the space
    of the network's tangent kernel.

    Source: Wenzel, Santin and Haasdonk, Analysis of target data-dependent greedy kernel algorithms,
    Constructive Approximation 57, 2023.
    """
    return response.totals(response.s**2)


def select(
    response: Response, values: np.ndarray, columns: Columns, n: int, gains: Gains = lowered
) -> Selection:
    """Choose n candidates, one by one, each the one that brings most.

    delta is the step of the parameters when all chosen points join the training: with their rows C
    and residuals s, ``-(G + C^T C + damping I)^-1 C^T s``. So a point whose neighbour is chosen
    already counts with what it adds to it. The choice ends where no candidate brings anything.

    Args:
        values: t, ``[n_targets]``.
        columns: of ``A P A^T``.
        gains: by default, how much ``|t + E delta|^2`` falls.
    """
    chosen: list[int] = []
    squares, taken = [float(values @ values)], np.zeros((len(response.s), 0))
    while len(chosen) < n:
        left = gains(response, values)
        left[chosen] = -np.inf
        best = int(np.argmax(left))
        if not left[best] > 0:
            break
        rows = np.flatnonzero(response.point == best)
        B = columns(rows) - taken @ taken[rows].T
        response, moved, V = response.with_point(best, B)
        values, taken = values + moved, np.hstack([taken, V])
        chosen.append(best)
        squares.append(float(values @ values))
    return Selection(np.array(chosen, int), np.array(squares))
