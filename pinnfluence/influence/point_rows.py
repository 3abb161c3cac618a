"""Residuals of points with their gradients, and what they are beside the points' own curvature."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pinnfluence.loss.differentiators import jacobian
from pinnfluence.loss.loss import Loss
from pinnfluence.runtime.devices import float64_array

Filter = Callable[[np.ndarray], np.ndarray]
"""From eigenvalues ``[n, m]`` to factors ``[n, m]``."""


@dataclass(frozen=True)
class ResidualRows:
    """A loss term at some points: their numbers, residuals ``[n]`` and gradients."""

    name: str
    points: np.ndarray
    scale: float
    values: np.ndarray
    gradients: np.ndarray


def residual_rows(chunk: Loss, batch_size: int) -> Iterator[ResidualRows]:
    """All residuals of a loss with their gradients, some points of a term at a time."""
    collocation = chunk.collocation
    for points, one in zip(collocation.points.rows, collocation.singles(), strict=True):
        start = 0
        for part in one.chunks(batch_size):
            here = points[start : start + len(part)]
            for name, found in jacobian(part).items():
                values, gradients = map(float64_array, found)
                yield ResidualRows(name, here, chunk.scale(name), values, gradients)
            start += len(part)


@dataclass(frozen=True)
class PointRows:
    """Scaled residuals ``s = scale r`` of n points, point by point, term by term.

    point: numbers of the points, rising, ``[n_rows]``. term: numbers of the loss terms. scale, r:
    ``[n_rows]``. A: gradients of s, ``[n_rows, n_params]``.
    """

    n: int
    point: np.ndarray
    term: np.ndarray
    scale: np.ndarray
    r: np.ndarray
    A: np.ndarray

    @classmethod
    def of(cls, loss: Loss, batch_size: int) -> PointRows:
        """All residuals of a loss."""
        names, nothing = list(loss.collocation.term_rows()), np.zeros(0)
        parts = list(residual_rows(loss, batch_size))
        point = np.concatenate([np.zeros(0, int), *(part.points for part in parts)])
        counts = [len(part.points) for part in parts]
        term = np.repeat(np.array([names.index(part.name) for part in parts], int), counts)
        order = np.lexsort((term, point))
        scale = np.repeat(np.array([part.scale for part in parts]), counts)[order]
        r = np.concatenate([nothing, *(part.values for part in parts)])[order]
        A = np.concatenate([nothing.reshape(0, loss.pinn.n_params), *(p.gradients for p in parts)])
        return cls(len(loss), point[order], term[order], scale, r, scale[:, None] * A[order])

    @property
    def s(self) -> np.ndarray:
        """Scaled residuals, ``[n_rows]``."""
        return self.scale * self.r

    def leverages(self, solved: np.ndarray) -> Blocks:
        """The blocks ``A_i P A_i^T`` of each point, from ``solved = P A^T``."""
        point, slot, n_rows = self.point, slots(self.point), len(self.point)
        width = int(slot.max(initial=-1)) + 1
        matrices = np.zeros((self.n, width, width))
        for apart in range(width):
            i = np.flatnonzero(point[: n_rows - apart] == point[apart:])
            products = np.einsum("ij,ji->i", self.A[: n_rows - apart], solved[:, apart:])[i]
            matrices[point[i], slot[i], slot[i + apart]] = products
            matrices[point[i], slot[i + apart], slot[i]] = products
        return Blocks(point, matrices)


@dataclass(frozen=True)
class Blocks:
    """A symmetric matrix with a block for each point.

    point: of each row, rising, ``[n_rows]``. matrices: ``[n, m, m]``, m the largest number of rows
    of a point; 0 where a point has fewer.
    """

    point: np.ndarray
    matrices: np.ndarray

    @cached_property
    def _slots(self) -> np.ndarray:
        return slots(self.point)

    @cached_property
    def _spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        values, vectors = np.linalg.eigh(self.matrices)
        return np.maximum(values, 0.0), vectors  # rounding may have made them less

    @property
    def largest(self) -> np.ndarray:
        """The largest eigenvalue of each block, ``[n]``."""
        values: np.ndarray = self._spectrum[0].max(1, initial=0.0)
        return values

    def padded(self, rows: np.ndarray) -> np.ndarray:
        """Rows ``[n_rows, ...]`` by point, ``[n, m, ...]``; 0 where a point has fewer."""
        by_point = np.zeros((*self.matrices.shape[:2], *rows.shape[1:]))
        by_point[self.point, self._slots] = rows
        return by_point

    @classmethod
    def joined(cls, parts: Sequence[Blocks]) -> Blocks:
        """The blocks of several sets of points, one set after another."""
        width = max(part.matrices.shape[1] for part in parts)
        starts = np.cumsum([0, *(len(part.matrices) for part in parts)]).tolist()
        point = [start + part.point for start, part in zip(starts, parts, strict=False)]
        more = [(0, width - part.matrices.shape[1]) for part in parts]
        matrices = [
            np.pad(part.matrices, ((0, 0), m, m)) for part, m in zip(parts, more, strict=True)
        ]
        return cls(np.concatenate(point), np.concatenate(matrices))

    def without(self, V: np.ndarray) -> Blocks:
        """The blocks of this matrix minus ``V V^T``, for V ``[n_rows, k]``."""
        rows = self.padded(V)
        return Blocks(self.point, self.matrices - rows @ rows.transpose(0, 2, 1))

    def filtered(self, s: np.ndarray, factors: Filter) -> np.ndarray:
        """A function of the blocks times a vector, ``V factors(values) V^T s``, ``[n_rows]``."""
        values, vectors = self._spectrum
        inner = factors(values) * np.einsum("nji,nj->ni", vectors, self.padded(s))
        product: np.ndarray = np.einsum("nij,nj->ni", vectors, inner)[self.point, self._slots]
        return product


def slots(point: np.ndarray) -> np.ndarray:
    """Where rows stand among those of their point, from its number, rising, ``[n_rows]``."""
    number: np.ndarray = np.arange(len(point)) - np.searchsorted(point, point)
    return number
