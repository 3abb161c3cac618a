"""The largest eigenpairs of a curvature matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from pinnfluence.errors import InputError

Advance = Callable[[int], object]
"""Receives the number of finished products, for a progress bar."""

DENSE_LIMIT = 400
"""Number of parameters up to which eigenpairs come from the dense matrix."""


TOLERANCE = 1e-6
"""Relative accuracy of eigenvalues by ARPACK."""


class Symmetric(Protocol):
    """A symmetric matrix as an operator, such as a ``Curvature``."""

    n_params: int
    n_products: int

    @property
    def shape(self) -> tuple[int, int]: ...

    def matvec(self, vector: np.ndarray) -> np.ndarray: ...

    def dense(self) -> np.ndarray: ...


@dataclass(frozen=True)
class Eigenpairs:
    """Largest eigenpairs of a symmetric matrix, in falling order.

    values: ``[rank]``. vectors: ``[n_params, rank]``, orthonormal. most_negative: the smallest
    eigenvalue that was seen (a Ritz value: the true smallest one may lie below). n_products:
    products with the matrix that it took.
    """

    values: np.ndarray
    vectors: np.ndarray
    most_negative: float
    n_products: int


def is_small(n_params: int, rank: int) -> bool:
    """Whether the eigenpairs come from the dense matrix."""
    return n_params <= max(DENSE_LIMIT, 4 * rank)


def top_eigenpairs(
    matrix: Symmetric,
    rank: int,
    shift: float,
    threshold: float,
    advance: Advance = lambda n: None,
) -> Eigenpairs:
    """The ``rank`` largest eigenpairs of ``H + shift I`` whose eigenvalue exceeds ``threshold``.

    By ``scipy.sparse.linalg.eigsh`` from a fixed start vector; a small matrix is diagonalised.
    ``advance`` counts products alone; a dense matrix reports its own progress.

    Raises:
        InputError: no eigenvalue above the threshold, NaN, or no convergence; with figures.
    """
    if rank < 1:
        raise InputError(f"the rank must be at least 1, found {rank}")
    if is_small(matrix.n_params, rank):
        dense = matrix.dense()
        check_finite(dense)
        values, vectors = np.linalg.eigh((dense + dense.T) / 2)
        lowest = float(values[0])
    else:
        values, vectors, lowest = _lanczos(matrix, rank, advance)
    values = values + shift
    order = np.argsort(values)[::-1][:rank]
    pairs = Eigenpairs(values[order], vectors[:, order], lowest, matrix.n_products)
    return keep_above(pairs, threshold)


def keep_above(pairs: Eigenpairs, threshold: float) -> Eigenpairs:
    """The pairs whose eigenvalue exceeds the threshold.

    Raises:
        InputError: none does.
    """
    n = int((pairs.values > threshold).sum())
    if n == 0:
        raise InputError(
            f"no eigenvalue of the curvature exceeds {threshold:g}, "
            f"the largest is {pairs.values[0]:.3g}"
        )
    return replace(pairs, values=pairs.values[:n], vectors=pairs.vectors[:, :n])


def _lanczos(
    matrix: Symmetric, rank: int, advance: Advance
) -> tuple[np.ndarray, np.ndarray, float]:
    """Eigenpairs by ARPACK, and the smallest Ritz value on its first Krylov basis."""
    n_basis = min(matrix.n_params, max(2 * rank + 1, 20))
    basis: list[np.ndarray] = []
    images: list[np.ndarray] = []

    def product(v: np.ndarray) -> np.ndarray:
        image = matrix.matvec(v)
        check_finite(image)
        if len(basis) < n_basis:
            basis.append(v.reshape(-1).copy())
            images.append(image)
        advance(1)
        return image

    start = np.random.default_rng(0).standard_normal(matrix.n_params)
    operator = LinearOperator(matrix.shape, matvec=product, dtype=np.float64)
    try:
        values, vectors = eigsh(operator, k=rank, which="LA", v0=start, ncv=n_basis, tol=TOLERANCE)
    except ArpackNoConvergence as error:
        raise InputError(
            f"the eigensolver found {len(error.eigenvalues)} of {rank} eigenpairs in "
            f"{matrix.n_products} products; try a lower rank or --dtype float64"
        ) from None
    return values, vectors, _lowest_ritz_value(np.stack(basis), np.stack(images))


def _lowest_ritz_value(basis: np.ndarray, images: np.ndarray) -> float:
    """Smallest eigenvalue on the span of the basis, which is made orthonormal: ARPACK's is not."""
    left, sizes, _ = np.linalg.svd(basis, full_matrices=False)
    weights = (left / sizes)[:, sizes > 1e-3 * sizes[0]]
    projected = weights.T @ (basis @ images.T) @ weights
    return float(np.linalg.eigvalsh((projected + projected.T) / 2)[0])


def check_finite(array: np.ndarray) -> None:
    if not np.isfinite(array).all():
        raise InputError("the curvature has NaN or infinite values; the network's loss overflows")
