"""The contract of a curvature matrix: its products with vectors, and its properties."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from pinnfluence.curvature.matrix_store import MatrixStore
from pinnfluence.loss.loss import Loss
from pinnfluence.runtime.devices import float64_array, tensor_like
from pinnfluence.runtime.executor import Executor


class Curvature(LinearOperator):
    """A symmetric matrix ``[n_params, n_params]`` that belongs to ``L = sum_ik w_k r_k(z_i)^2``.

    A SciPy ``LinearOperator``: ``matrix @ v``, ``matrix + damping * identity`` and the solvers of
    SciPy take it as it is. It is summed over all points before anything is done with it, so that
    the result does not depend on the executor's batch size beyond rounding. Several processes share
    the points: then all of them must call its products, ``dense`` and ``rows``.

    A kind of matrix gives ``_products`` and says which of the properties below it has; inverses,
    damping and estimates ask for nothing else. One that is a sum of outer products of the
    residuals' gradients derives from ``Gram``.

    Args:
        loss: L at the training points.
        executor: carries out the sums over points.
    """

    semidefinite: ClassVar[bool] = False
    """Whether it has no negative eigenvalue, whatever the parameters are."""

    is_hessian: ClassVar[bool] = False
    """Whether it is the Hessian of L; the damping takes account of what all others neglect."""

    has_rows: ClassVar[bool] = False
    """Whether it is ``A^T A`` with a row of A a residual, see ``rows``."""

    has_loss_rows: ClassVar[bool] = False
    """Whether these rows are those of the Jacobian of the loss's scaled residuals."""

    def __init__(self, loss: Loss, executor: Executor | None = None) -> None:
        self.loss, self.executor = loss, executor or Executor()
        self.n_params, self.n_products = loss.pinn.n_params, 0
        super().__init__(np.float64, (self.n_params, self.n_params))

    @property
    def n_residuals(self) -> int:
        """Number of residuals: the sum of |S_k| over the loss terms."""
        return self.loss.collocation.n_residuals

    @property
    def n_steps(self) -> int:
        """Steps that ``dense`` reports to the executor in this process."""
        return self.n_params

    @property
    def n_parts(self) -> int:
        """Parts in which ``dense`` makes the matrix, after each of which it can be kept."""
        return self.n_params

    def at(self, loss: Loss) -> Curvature:
        """The same matrix of another loss, computed in the same way."""
        return type(self)(loss, self.executor)

    def _matvec(self, vector: np.ndarray) -> np.ndarray:
        self.n_products += 1
        v = tensor_like(np.asarray(vector, np.float64).reshape(-1), self.loss.pinn.like)
        parts = self._products(v)
        total = torch.stack(parts).sum(0) if parts else torch.zeros_like(v)
        return float64_array(self.executor.sum(total))

    def _matmat(self, vectors: np.ndarray) -> np.ndarray:
        return np.stack([self._matvec(v) for v in np.asarray(vectors).T], axis=1)

    def _adjoint(self) -> LinearOperator:
        return self

    def dense(self, store: MatrixStore | None = None) -> np.ndarray:
        """The whole matrix, ``[n_params, n_params]``, one product a column; for small networks.

        Its lower triangle counts: the upper one may differ by rounding, and is replaced by it.

        Args:
            store: keeps the columns that are finished, and gives them back.
        """
        store = store or MatrixStore()
        total, done = store.begin(self.n_params, self.n_params)
        start = self.executor.from_first(done)
        self.n_products += start
        self.executor.advance(start)
        for number in range(start, self.n_params):
            unit = np.zeros(self.n_params)
            unit[number] = 1
            total[:, number] = self.matvec(unit)
            self.executor.advance()
            store.note(total, number + 1)
        store.finish(total)
        mirror(total)
        return total

    def row_blocks(
        self, dtype: torch.dtype, done: int = 0
    ) -> Iterator[list[tuple[str, slice, Tensor]]]:
        """The rows of A block by block, see ``Gram``.

        Raises:
            TypeError: the matrix has no rows.
        """
        raise TypeError(f"{type(self).__name__} is no matrix of the form A^T A")

    def rows(self) -> np.ndarray:
        """A itself, ``[n_residuals, n_params]``, term by term.

        Raises:
            TypeError: the matrix has no rows.
        """
        raise TypeError(f"{type(self).__name__} is no matrix of the form A^T A")

    def _chunks(self) -> Sequence[Loss]:
        return self.executor.batches(self.loss)

    @abstractmethod
    def _products(self, v: Tensor) -> list[Tensor]:
        """Parts ``[n_params]`` of the product, one a chunk of points."""


def mirror(matrix: np.ndarray, block: int = 1024) -> None:
    """Copy the lower triangle of a square matrix to the upper one, in place."""
    for start in range(0, len(matrix), block):
        stop = start + block
        corner = matrix[start:stop, start:stop]
        corner[:] = np.tril(corner) + np.tril(corner, -1).T
        matrix[start:stop, stop:] = matrix[stop:, start:stop].T
