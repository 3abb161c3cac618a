"""Gradient matrices of training and test points, in blocks of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from pinnfluence.loss.collocation import Collocation, Pinn
from pinnfluence.loss.gradients import Advance, jacobian
from pinnfluence.runtime import distributed
from pinnfluence.runtime.devices import float64_array, tensor_like


class TrainingGradients:
    """Gradients ``2 w_k r_k grad r_k`` of all training points by loss term, ``[n_rows, n_params]``.

    A row is a loss term at one of the points on which it acts; the matrix is never made whole. Of
    several processes (see ``distributed``), all must call the products, and each takes its part.

    Args:
        collocation, weights, batch_size: the loss of the training points.
        advance: is told of finished rows. expect: before a product, of rows that are to come at
            least: those of the product, and of a transposed one that ends the work.
        residuals: take the place of r_k, by loss term ``[n_k]``; see ``leverage``.

    Attributes:
        slices: the rows of each loss term, in the order of the loss.
    """

    def __init__(
        self,
        collocation: Collocation,
        weights: Mapping[str, float],
        batch_size: int,
        advance: Advance = lambda n: None,
        expect: Advance = lambda n: None,
        residuals: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self._residuals = residuals
        self.collocation, self.weights, self.batch_size = collocation, weights, batch_size
        self.advance, self.expect = advance, expect
        self.points = collocation.term_rows()
        ends = np.cumsum([0, *(len(rows) for rows in self.points.values())])
        self.n_rows = int(ends[-1])
        self.slices = {
            name: slice(int(a), int(b))
            for name, a, b in zip(self.points, ends[:-1], ends[1:], strict=True)
        }

    def times(self, matrix: np.ndarray) -> np.ndarray:
        """The product with ``[n_params, k]``, of shape ``[n_rows, k]``, kept in float32."""
        self.expect(2 * self._n_own_rows())
        product = np.zeros((self.n_rows, matrix.shape[1]), np.float32)
        right: Tensor | None = None
        for rows, block in self._blocks():
            right = tensor_like(matrix, block) if right is None else right
            product[rows] = (block @ right).cpu().numpy()
        distributed.sum_over_ranks(torch.from_numpy(product))
        return product

    def transposed_times(self, matrix: np.ndarray) -> np.ndarray:
        """The product of the transpose with ``[n_rows, k]``, of shape ``[n_params, k]``."""
        self.expect(self._n_own_rows())
        some = next(iter(self.collocation.pinn.params.values()))
        product = some.new_zeros(self.collocation.pinn.n_params, matrix.shape[1])
        for rows, block in self._blocks():
            product += block.T @ tensor_like(matrix[rows], block)
        return float64_array(distributed.sum_over_ranks(product))

    def totals(self, by_row: np.ndarray) -> np.ndarray:
        """Sums over the loss terms: from ``[n_rows, k]`` to ``[n_train, k]``."""
        total = np.zeros((len(self.collocation.x), by_row.shape[1]))
        for name, rows in self.slices.items():
            total[self.points[name]] += by_row[rows]
        return total

    def _n_own_rows(self) -> int:
        """About how many rows a product takes in this process."""
        return self.n_rows // distributed.world_size()

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        for number in range(len(self.collocation.names)):
            one, size = self.collocation.only(number), self.batch_size
            starts = range(0, len(one.x), size)
            chunks = list(zip(starts, one.chunks(size), strict=True))
            for start, chunk in distributed.share(chunks):
                for name, (values, gradients) in jacobian(chunk).items():
                    if self._residuals is not None:
                        here = slice(start, start + len(values))
                        values = tensor_like(self._residuals[name][here], values)
                    first = self.slices[name].start + start
                    factors = 2 * self.weights[name] * values[:, None]
                    yield slice(first, first + len(values)), gradients.mul_(factors)
                    self.advance(len(values))


def test_gradients(
    pinn: Pinn, x: np.ndarray, batch_size: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Gradients of all quantities at the points ``x``, except sums: by name, points and rows.

    The points ``[n]`` on which the quantity acts, and the gradients ``[n, n_params]`` of outputs,
    derived quantities, and squared residuals ``r_k(x)^2``.
    """
    found = {}
    for collocation, squared in ((pinn.at(x, [pinn.observables]), False), (pinn.at(x), True)):
        for number, names in enumerate(collocation.names):
            parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
            for chunk in collocation.only(number).chunks(batch_size):
                for name, (values, gradients) in jacobian(chunk).items():
                    slopes = 2 * values[:, None] * gradients if squared else gradients
                    parts[name].append(float64_array(slopes))
            for name, blocks in parts.items():
                rows = np.concatenate([np.empty((0, pinn.n_params)), *blocks])
                found[name] = collocation.rows[number], rows
    return found
