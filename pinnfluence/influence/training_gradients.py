"""Gradient matrices of training and test points, in blocks of rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import DTypeLike
from torch import Tensor

from pinnfluence.curvature.inverse import Inverse
from pinnfluence.loss.differentiators import jacobian
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import Collocation, Pinn
from pinnfluence.runtime.devices import float64_array, tensor_like
from pinnfluence.runtime.executor import Executor


class TrainingGradients:
    """Gradients ``2 w_k r_k grad r_k`` of all training points by loss term, ``[n_rows, n_params]``.

    A row is a loss term at one of the points on which it acts, term by term; the matrix is never
    made whole. Of several processes, all must call the products, and each takes its part.

    Args:
        loss: of the training points.
        executor: carries out the products.
        residuals: take the place of r_k, by loss term ``[n_k]``; see ``leverage``.

    Attributes:
        slices: the rows of each loss term, in the order of the loss.
        points: the points on which each term acts, by index ``[n_k]``.
    """

    def __init__(
        self, loss: Loss, executor: Executor, residuals: Mapping[str, np.ndarray] | None = None
    ) -> None:
        self.loss, self.executor, self._residuals = loss, executor, residuals
        self.points, self.slices = loss.collocation.term_rows(), loss.collocation.slices()
        self.n_rows = loss.collocation.n_residuals

    def times(self, matrix: np.ndarray, dtype: DTypeLike = np.float32) -> np.ndarray:
        """The product with ``[n_params, k]``, of shape ``[n_rows, k]``, kept in a dtype."""
        self.executor.expect(2 * self._n_own_rows())
        product = np.zeros((self.n_rows, matrix.shape[1]), dtype)
        right: Tensor | None = None
        for rows, block in self._blocks():
            right = tensor_like(matrix, block) if right is None else right
            product[rows] = (block @ right).cpu().numpy()
        self.executor.sum(torch.from_numpy(product))
        return product

    def transposed_times(self, matrix: np.ndarray) -> np.ndarray:
        """The product of the transpose with ``[n_rows, k]``, of shape ``[n_params, k]``."""
        self.executor.expect(self._n_own_rows())
        product = self.loss.pinn.like.new_zeros(self.loss.pinn.n_params, matrix.shape[1])
        for rows, block in self._blocks():
            product += block.T @ tensor_like(matrix[rows], block)
        return float64_array(self.executor.sum(product))

    def factors(self) -> np.ndarray:
        """What the rows of the scaled residuals' Jacobian are multiplied by, ``[n_rows]``: s."""
        residuals = self._residuals
        if residuals is None:
            size, singles = self.executor.batch_size, self.loss.collocation.singles()
            residuals = {name: r for one in singles for name, r in one.evaluate(size).items()}
        parts = [self.loss.scale(name) * residuals[name] for name in self.slices]
        return np.concatenate([np.zeros(0), *parts])

    def totals(self, by_row: np.ndarray) -> np.ndarray:
        """Sums over the loss terms: from ``[n_rows, k]`` to ``[n_train, k]``."""
        total = np.zeros((len(self.loss), by_row.shape[1]))
        for name, rows in self.slices.items():
            total[self.points[name]] += by_row[rows]
        return total

    def _n_own_rows(self) -> int:
        """About how many rows a product takes in this process."""
        return self.n_rows // self.executor.n_processes

    def _chunks(self, one: Collocation) -> list[tuple[int, Collocation]]:
        size = self.executor.batch_size
        return list(zip(range(0, len(one), size), one.chunks(size), strict=True))

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        for one in self.loss.collocation.singles():
            for start, chunk in self.executor.share(self._chunks(one)):
                for name, (values, gradients) in jacobian(chunk).items():
                    if self._residuals is not None:
                        here = slice(start, start + len(values))
                        values = tensor_like(self._residuals[name][here], values)
                    first = self.slices[name].start + start
                    factors = self.loss.slopes(name, values)[:, None]
                    yield slice(first, first + len(values)), gradients.mul_(factors)
                    self.executor.advance(len(values))


def training_scores(
    train: TrainingGradients,
    inverse: Inverse,
    columns: Iterable[np.ndarray],
    dtype: DTypeLike = np.float32,
) -> np.ndarray:
    """``G_train (M + damping I)^-1`` times columns, ``[n_rows, k]``.

    The columns come as blocks ``[n_params, k_b]``, which are solved one after another.
    """
    if inverse.has_rows:
        factors = train.factors()[:, None]
        solved = [(factors * inverse.rows_solve(block)).astype(dtype) for block in columns]
        train.executor.advance(train.n_rows)
        return np.concatenate(solved, axis=1)
    return train.times(np.concatenate([inverse.solve(block) for block in columns], axis=1), dtype)


def solve_training(
    train: TrainingGradients, inverse: Inverse, coefficients: np.ndarray
) -> np.ndarray:
    """``(M + damping I)^-1 G_train^T`` times columns ``[n_rows, k]``, ``[n_params, k]``."""
    if inverse.has_rows:
        train.executor.advance(train.n_rows)
        return inverse.solve_rows(train.factors()[:, None] * coefficients)
    return inverse.solve(train.transposed_times(coefficients))


def test_gradients(
    pinn: Pinn, x: np.ndarray, executor: Executor
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Gradients of all quantities at the points ``x``, except sums: by name, points and rows.

    The points ``[n]`` on which the quantity acts, and the gradients ``[n, n_params]`` of outputs,
    derived quantities, and squared residuals ``r_k(x)^2``.
    """
    found = {}
    squares = Loss.uniform(pinn.at(x))
    for collocation, loss in ((pinn.at(x, [pinn.observables]), None), (pinn.at(x), squares)):
        for rows, one in zip(collocation.points.rows, collocation.singles(), strict=True):
            parts: dict[str, list[np.ndarray]] = {name: [] for name in one.names[0]}
            for chunk in one.chunks(executor.batch_size):
                for name, (values, gradients) in jacobian(chunk).items():
                    slopes = loss.slopes(name, values)[:, None] * gradients if loss else gradients
                    parts[name].append(float64_array(slopes))
            for name, blocks in parts.items():
                found[name] = rows, np.concatenate([np.empty((0, pinn.n_params)), *blocks])
    return found
