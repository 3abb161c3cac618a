"""The loss at any points as a vector of residuals with a Jacobian, and damped inverses of it.

This is the only module of the diagnosis that touches the engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from scipy.linalg import cho_solve, cholesky, qr, svd
from scipy.linalg.blas import dsymv
from scipy.spatial import cKDTree

from pinnfluence.curvature.gram import add_gram
from pinnfluence.curvature.lanczos import Advance
from pinnfluence.loss.differentiators import jacobian
from pinnfluence.loss.pinn import Collocation, Pinn
from pinnfluence.problem.equation import Equation
from pinnfluence.runtime.devices import float64_array

BATCH_SIZE = 500
BLOCK_ROWS = 2500
"""Rows of the Jacobian that are added to the Gram matrix at a time."""

NEIGHBOURS = 8
SMALLEST = 1e-6
"""Residuals below this part of the largest count as that, see ``PointLoss.balanced``."""

SMALL = 5000
"""Parameters up to which the singular values of the Jacobian itself are computed."""


@dataclass(frozen=True)
class PointLoss:
    """``L = sum_k sum_{i in S_k} w_ik r_k(z_i)^2`` with weights of single points.

    With ``s = (2 w)^1/2 r`` it is ``|s|^2 / 2``, its gradient ``A^T s`` and its Gauss-Newton matrix
    ``A^T A``, A the Jacobian of s. Rows are in the order of the loss terms, then of the points.

    collocation: the loss terms at the points. weights: w_ik by term, ``[n_k]``.
    """

    collocation: Collocation
    weights: Mapping[str, np.ndarray]

    @cached_property
    def slices(self) -> dict[str, slice]:
        """The rows of each loss term."""
        sizes = [len(rows) for rows in self.collocation.term_rows().values()]
        ends = np.cumsum([0, *sizes]).tolist()
        names = self.collocation.term_rows()
        return {n: slice(a, b) for n, a, b in zip(names, ends[:-1], ends[1:], strict=True)}

    @property
    def n_rows(self) -> int:
        """Number of residuals."""
        return sum(len(rows) for rows in self.collocation.term_rows().values())

    @property
    def points(self) -> np.ndarray:
        """The point of each row, ``[n_rows]``."""
        return np.concatenate([np.zeros(0, int), *self.collocation.term_rows().values()])

    def residuals(self) -> np.ndarray:
        """s, ``[n_rows]``."""
        s = np.empty(self.n_rows)
        for start, chunk in self._chunks():
            with torch.no_grad():
                values = chunk.residuals(chunk.pinn.params)
            for name, r in values.items():
                rows = self._rows(name, start, len(r))
                s[rows] = self._scale(name, start, len(r)) * float64_array(r)
        return s

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """A, block by block: the rows of a block, and these rows ``[n, n_params]``."""
        for start, chunk in self._chunks():
            for name, (_, gradients) in jacobian(chunk).items():
                scale = self._scale(name, start, len(gradients))
                rows = self._rows(name, start, len(gradients))
                yield rows, scale[:, None] * float64_array(gradients)

    def jacobian(self, advance: Advance = lambda n: None) -> np.ndarray:
        """A, ``[n_rows, n_params]``."""
        A = np.empty((self.n_rows, self.collocation.pinn.n_params))
        for rows, block in self.blocks():
            A[rows] = block
            advance(len(block))
        return A

    def point_losses(self) -> np.ndarray:
        """``l_i = sum_k w_ik r_k(z_i)^2``, ``[n]``."""
        losses = np.zeros(len(self.collocation.x))
        np.add.at(losses, self.points, 0.5 * self.residuals() ** 2)
        return losses

    def term_losses(self) -> dict[str, float]:
        """``sum_i w_ik r_k(z_i)^2`` by name."""
        squares = 0.5 * self.residuals() ** 2
        return {name: float(squares[rows].sum()) for name, rows in self.slices.items()}

    def balanced(self) -> PointLoss:
        """The same loss with each weight divided by the residuals around its point.

        ``w_ik / rms_i``, the root mean square over the nearest points of the residuals that act
        there, weighted with c_k. What no step removes of a residual grows with it; a fit that
        counts all of them alike would buy the last percent where they are large with errors as
        large as the whole where they are small.
        """
        x = self.collocation.x
        size = np.ptp(x, axis=0)
        scaled = (x - x.min(0)) / np.where(size > 0, size, 1)
        nearest = cKDTree(scaled).query(scaled, min(NEIGHBOURS, len(x)))[1].reshape(len(x), -1)
        raw = self.unweighted().point_losses()
        around = np.sqrt(raw[nearest].mean(1))
        around += SMALLEST * around.max()
        if not around.max() > 0:
            return self
        rows = self.collocation.term_rows()
        return replace(self, weights={n: w / around[rows[n]] for n, w in self.weights.items()})

    def unweighted(self) -> PointLoss:
        """The same loss with the weights c_k alone."""
        given = self.collocation.pinn.loss_weights
        weights = {n: np.full(len(w), given.get(n, 1.0)) for n, w in self.weights.items()}
        return replace(self, weights=weights)

    def total(self) -> float:
        """L."""
        s = self.residuals()
        return float(0.5 * (s @ s))

    def of(self, pinn: Pinn) -> PointLoss:
        """The same points, equations and weights with another network."""
        return replace(self, collocation=replace(self.collocation, pinn=pinn))

    def _chunks(self) -> Iterator[tuple[int, Collocation]]:
        for number in range(len(self.collocation.names)):
            one = self.collocation.only(number)
            starts = range(0, len(one.x), BATCH_SIZE)
            yield from zip(starts, one.chunks(BATCH_SIZE), strict=True)

    def _rows(self, name: str, start: int, n: int) -> slice:
        first = self.slices[name].start + start
        return slice(first, first + n)

    def _scale(self, name: str, start: int, n: int) -> np.ndarray:
        return np.sqrt(2 * self.weights[name][start : start + n])


class Inverse(Protocol):
    """Damped inverses of a Gauss-Newton matrix ``G = A^T A``, dampings as parts of its largest
    eigenvalue.

    largest: the largest eigenvalue of G. least: the least part at which rounding leaves the
    solution right.
    """

    largest: float
    least: float

    def solve(self, vectors: np.ndarray, part: float) -> np.ndarray:
        """``(G + part largest I)^-1`` times a vector or columns, ``[n_params, ...]``."""
        ...

    def step(self, part: float) -> np.ndarray:
        """``-(G + part largest I)^-1 A^T s``, ``[n_params]``: the minimiser of the linearised
        loss ``|s + A d|^2 / 2 + part largest |d|^2 / 2``."""
        ...

    def effective_parameters(self, part: float) -> float:
        """``tr (G + part largest I)^-1 G``."""
        ...


class SingularValues:
    """Inverses from the singular values of A: exact down to dampings far below the rounding of G.

    A = Q R, R = U S V^T: ``(G + damping I)^-1 = V (S^2 + damping)^-1 V^T`` on the rows of V^T, and
    ``1 / damping`` on what is orthogonal to them.
    """

    least = 1e-24

    def __init__(
        self,
        loss: PointLoss,
        start: np.ndarray | None = None,
        advance: Advance = lambda n: None,
    ) -> None:
        A, s = loss.jacobian(advance), loss.residuals()
        if start is not None:
            s = s - A @ start
        if len(A) > A.shape[1]:
            Q, A = qr(A, mode="economic", overwrite_a=True, check_finite=False)
            s = Q.T @ s
        U, self._values, self._vectors = svd(
            A, full_matrices=False, overwrite_a=True, check_finite=False
        )
        self._right = U.T @ s
        self.largest = float(self._values[0]) ** 2

    def solve(self, vectors: np.ndarray, part: float) -> np.ndarray:
        damping, V = part * self.largest, self._vectors
        inside = V @ vectors
        found = V.T @ (inside.T / (self._values**2 + damping)).T
        if len(V) < V.shape[1]:
            outside = vectors - V.T @ inside
            outside -= V.T @ (V @ outside)  # the first difference leaves rounding along V
            found += outside / damping
        return found

    def step(self, part: float) -> np.ndarray:
        S = self._values
        return -self._vectors.T @ (S / (S**2 + part * self.largest) * self._right)

    def effective_parameters(self, part: float) -> float:
        S2 = self._values**2
        return float((S2 / (S2 + part * self.largest)).sum())


class GramMatrix:
    """Inverses from Cholesky factors of G itself, for more parameters.

    The factor of the last damping is kept. gradient: ``A^T s``, ``[n_params]``.
    """

    least = 1e-15

    def __init__(
        self,
        loss: PointLoss,
        start: np.ndarray | None = None,
        advance: Advance = lambda n: None,
    ) -> None:
        n_params, s = loss.collocation.pinn.n_params, loss.residuals()
        self._matrix = np.zeros((n_params, n_params), order="F")  # its lower triangle counts
        self.gradient = np.zeros(n_params)
        waiting: list[np.ndarray] = []
        for rows, block in loss.blocks():
            here = s[rows] if start is None else s[rows] - block @ start
            self.gradient += block.T @ here
            waiting.append(block)
            if sum(map(len, waiting)) >= BLOCK_ROWS:
                self._add(waiting)
            advance(len(block))
        self._add(waiting)
        self.largest = self._power_iteration()
        self._factor: tuple[float, np.ndarray] | None = None

    def solve(self, vectors: np.ndarray, part: float) -> np.ndarray:
        if self._factor is None or self._factor[0] != part:
            self._factor = None
            shifted = self._matrix.copy(order="F")
            np.einsum("ii->i", shifted)[:] += part * self.largest
            factor = cholesky(shifted, lower=True, overwrite_a=True, check_finite=False)
            self._factor = part, factor
        return cho_solve((self._factor[1], True), vectors, check_finite=False)

    def step(self, part: float) -> np.ndarray:
        return -self.solve(self.gradient, part)

    def effective_parameters(self, part: float) -> float:
        """By 30 random vectors of signs (Hutchinson)."""
        signs = np.random.default_rng(0).choice([-1.0, 1.0], (len(self.gradient), 30))
        damping = part * self.largest
        kept = 1 - damping * np.mean(np.sum(signs * self.solve(signs, part), 0)) / len(signs)
        return float(kept * len(signs))

    def _add(self, waiting: list[np.ndarray]) -> None:
        if waiting:
            rows = torch.from_numpy(np.concatenate(waiting))
            self._matrix = add_gram(self._matrix, rows)
            waiting.clear()

    def _power_iteration(self, n: int = 30) -> float:
        vector = np.random.default_rng(0).standard_normal(len(self.gradient))
        for _ in range(n):
            vector = dsymv(1.0, self._matrix, vector / np.linalg.norm(vector), lower=1)
        return float(np.linalg.norm(vector))


def is_small(pinn: Pinn) -> bool:
    """Whether a network has so few parameters that singular values of its Jacobian are cheap."""
    return pinn.n_params <= SMALL


def inverse_of(
    loss: PointLoss, start: np.ndarray | None = None, advance: Advance = lambda n: None
) -> Inverse:
    """The inverses of a loss's Gauss-Newton matrix, in the way that its size allows.

    Args:
        start: the step at which the residuals and the Jacobian were taken, if that is not 0: then
            ``step`` gives whole steps, ``|s + A (d - start)|`` is what they make small.
    """
    kind = SingularValues if is_small(loss.collocation.pinn) else GramMatrix
    return kind(loss, start, advance)


def gradients(
    pinn: Pinn, x: np.ndarray, weights: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Gradients of weighted sums of outputs, ``sum_i weights_i grad f(x_i)``, ``[n_params]``.

    Args:
        x: points ``[n, n_inputs]``. weights: by output, ``[n]``.
    """
    outputs = Equation(lambda f: {name: getattr(f, name) for name in weights})
    total = {name: np.zeros(pinn.n_params) for name in weights}
    collocation = pinn.at(x, [outputs])
    for start, chunk in zip(
        range(0, len(x), BATCH_SIZE), collocation.chunks(BATCH_SIZE), strict=True
    ):
        for name, (_, rows) in jacobian(chunk).items():
            total[name] += weights[name][start : start + len(rows)] @ float64_array(rows)
    return total
