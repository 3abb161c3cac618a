"""The contract of a curvature matrix: its products with vectors, and what is known of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from pinnfluence.curvature.matrix_store import MatrixStore
from pinnfluence.loss.collocation import Collocation
from pinnfluence.loss.gradients import Advance
from pinnfluence.runtime import distributed
from pinnfluence.runtime.devices import float64_array, tensor_like
from pinnfluence.runtime.parallel import pays_in_threads


class Curvature(ABC):
    """A symmetric matrix ``[n_params, n_params]`` that belongs to ``L = sum_ik w_k r_k(z_i)^2``.

    It is summed over all points before anything is done with it, so that the result does not
    depend on ``batch_size`` beyond rounding. Several processes share the points, see
    ``distributed``: then all of them must call ``matvec`` and ``dense``.

    A kind of matrix gives ``_products`` and says which of the properties below it has; inverses,
    damping and estimates ask for nothing else. One that is a sum of outer products of the
    residuals' gradients derives from ``Gram``.

    Args:
        collocation: the loss terms at the training points.
        weights: w_k by name of the loss term.
        batch_size: number of points whose derivatives are held at a time.
    """

    semidefinite: ClassVar[bool] = False
    """Whether it has no negative eigenvalue, whatever the parameters are."""

    is_hessian: ClassVar[bool] = False
    """Whether it is the Hessian of L itself; damping asks of all others what they neglect of it."""

    has_rows: ClassVar[bool] = False
    """Whether it is ``A^T A`` with a row of A a residual, see ``rows``."""

    def __init__(
        self, collocation: Collocation, weights: Mapping[str, float], batch_size: int
    ) -> None:
        self.collocation, self.weights, self.batch_size = collocation, weights, batch_size
        pinn = collocation.pinn
        self._params = {name: p.clone().requires_grad_() for name, p in pinn.params.items()}
        self.n_params = pinn.n_params
        self.n_products = 0

    @property
    def shape(self) -> tuple[int, int]:
        """``(n_params, n_params)``."""
        return self.n_params, self.n_params

    @property
    def n_residuals(self) -> int:
        """Number of residuals: the sum of |S_k| over the loss terms."""
        return sum(len(rows) for rows in self.collocation.term_rows().values())

    @property
    def n_steps(self) -> int:
        """Steps of which ``dense`` tells ``advance`` in this process."""
        return self.n_params

    @property
    def n_parts(self) -> int:
        """Parts in which ``dense`` makes the matrix, after each of which it can be kept."""
        return self.n_params

    def at(self, collocation: Collocation) -> Curvature:
        """The same matrix of other points, computed in the same way."""
        return type(self)(collocation, self.weights, self.batch_size)

    def matvec(self, vector: np.ndarray | Tensor) -> np.ndarray:
        """Product with a vector, of shape ``[n_params]``."""
        self.n_products += 1
        like = next(iter(self._params.values()))
        v = tensor_like(np.asarray(vector).reshape(-1), like)
        parts = self._products(v)
        total = torch.stack(parts).sum(0) if parts else torch.zeros_like(v)
        return float64_array(distributed.sum_over_ranks(total))

    def matmat(self, vectors: np.ndarray | Tensor) -> np.ndarray:
        """Products with the columns of ``[n_params, k]``."""
        return np.stack([self.matvec(v) for v in np.asarray(vectors).T], axis=1)

    def dense(
        self, advance: Advance = lambda n: None, store: MatrixStore | None = None
    ) -> np.ndarray:
        """The whole matrix, ``[n_params, n_params]``, one product a column; for small networks.

        Its lower triangle counts: the upper one may differ by rounding, and is replaced by it.

        Args:
            store: keeps the columns that are finished, and gives them back.
        """
        store = store or MatrixStore()
        total, done = store.begin(self.n_params, self.n_params)
        start = distributed.from_first(done)
        self.n_products += start
        advance(start)
        for number in range(start, self.n_params):
            unit = np.zeros(self.n_params)
            unit[number] = 1
            total[:, number] = self.matvec(unit)
            advance(1)
            store.note(total, number + 1)
        store.finish(total)
        mirror(total)
        return total

    def rows(self, advance: Advance = lambda n: None) -> np.ndarray:
        """A itself, ``[n_residuals, n_params]``; for more parameters than residuals.

        Raises:
            TypeError: the matrix has no rows.
        """
        raise TypeError(f"{type(self).__name__} is no matrix of the form A^T A")

    def operator(self) -> LinearOperator:
        """The same as a SciPy ``LinearOperator``."""
        return LinearOperator(
            self.shape, matvec=self.matvec, matmat=self.matmat, rmatvec=self.matvec, dtype=float
        )

    def _chunks(self) -> Sequence[Collocation]:
        return distributed.share(list(self.collocation.chunks(self.batch_size)))

    def _in_threads(self) -> bool:
        device = next(iter(self._params.values())).device
        return pays_in_threads(device, self.batch_size * self.n_params)

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
