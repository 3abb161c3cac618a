"""The Hessian of the loss as an operator, and its largest eigenpairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor

from pinnfluence.errors import InputError
from pinnfluence.parallel import map_in_threads, pays_in_threads
from pinnfluence.terms import Collocation

GRAPH_BUDGET_BYTES = 1_500_000_000
"""Memory up to which the graph of the gradient is kept between products instead of built anew."""

GRAPH_TENSORS = 14
"""Tensors as large as all activations that this graph holds, measured on the flow's network."""

DENSE_LIMIT = 400
"""Number of parameters up to which eigenpairs come from the dense matrix."""


class Hessian:
    """Hessian ``H = sum_i sum_k w_k nabla^2 r_k(z_i; theta)^2`` of the summed loss, as an operator.

    It is summed over all points before anything is done with it, so that the result does not
    depend on ``batch_size`` beyond rounding. Products are reverse over reverse.

    Args:
        collocation: the loss terms at the training points.
        weights: w_k by name of the loss term.
        batch_size: number of points whose derivatives are held at a time.
        keep_graph: keep the graph of the gradient between products, which saves half of the time
            and costs memory in proportion to the points; None decides by ``GRAPH_BUDGET_BYTES``.
    """

    def __init__(
        self,
        collocation: Collocation,
        weights: Mapping[str, float],
        batch_size: int,
        keep_graph: bool | None = None,
    ) -> None:
        self.collocation, self.weights, self.batch_size = collocation, weights, batch_size
        pinn = collocation.pinn
        self._params = {name: p.clone().requires_grad_() for name, p in pinn.params.items()}
        self.n_params = sum(p.numel() for p in self._params.values())
        self.n_products = 0
        if keep_graph is None:
            keep_graph = graph_bytes(collocation) <= GRAPH_BUDGET_BYTES
        self._keep = keep_graph
        self._gradients: list[Tensor] = []

    @property
    def shape(self) -> tuple[int, int]:
        """``(n_params, n_params)``."""
        return self.n_params, self.n_params

    def matvec(self, vector: np.ndarray | Tensor) -> np.ndarray:
        """Product ``H v`` of shape ``[n_params]``."""
        self.n_products += 1
        like = next(iter(self._params.values()))
        v = torch.as_tensor(np.asarray(vector).reshape(-1)).to(like.device, like.dtype)
        if self._keep:
            self._gradients = self._gradients or [self._gradient(c) for c in self._chunks()]
            parallel = pays_in_threads(v.device, self.batch_size * self.n_params)
            parts = map_in_threads(lambda g: self._product(g, v), self._gradients, parallel)
        else:
            parts = [self._product(self._gradient(c), v) for c in self._chunks()]
        return torch.stack(parts).sum(0).double().cpu().numpy()

    def dense(self, advance: Callable[[int], object] = lambda n: None) -> np.ndarray:
        """The whole matrix, ``[n_params, n_params]``, one product a column; for small networks."""
        columns = []
        for unit in np.eye(self.n_params):
            columns.append(self.matvec(unit))
            advance(1)
        return np.stack(columns, axis=1)

    def operator(self) -> LinearOperator:
        """The same as a SciPy ``LinearOperator``."""
        return LinearOperator(self.shape, matvec=self.matvec, dtype=np.float64)

    def _chunks(self) -> list[Collocation]:
        return list(self.collocation.chunks(self.batch_size))

    def _gradient(self, chunk: Collocation) -> Tensor:
        residuals = chunk.residuals(self._params, *chunk.tensors())
        loss = torch.stack(
            [self.weights[name] * r.square().sum() for name, r in residuals.items()]
        ).sum()
        params = list(self._params.values())
        gradients = torch.autograd.grad(loss, params, create_graph=True, materialize_grads=True)
        return torch.cat([g.flatten() for g in gradients])

    def _product(self, gradient: Tensor, v: Tensor) -> Tensor:
        params = list(self._params.values())
        products = torch.autograd.grad(
            gradient, params, v, retain_graph=self._keep, materialize_grads=True
        )
        return torch.cat([p.flatten() for p in products])


def graph_bytes(collocation: Collocation) -> int:
    """Rough size of the graph of the gradient at all points of a collocation."""
    pinn = collocation.pinn
    params = pinn.params
    width = sum(p.shape[0] for p in params.values() if p.ndim == 2)
    n_streams = len(pinn.derivatives(collocation.equations))
    itemsize = next(iter(params.values())).element_size()
    return GRAPH_TENSORS * len(collocation.x) * width * n_streams * itemsize


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
    matrix: Hessian,
    rank: int,
    shift: float,
    threshold: float,
    tolerance: float = 1e-6,
    advance: Callable[[int], object] = lambda n: None,
) -> Eigenpairs:
    """The ``rank`` largest eigenpairs of ``H + shift I`` whose eigenvalue exceeds ``threshold``.

    By ``scipy.sparse.linalg.eigsh`` from a fixed start vector; a small matrix is diagonalised.

    Raises:
        InputError: no eigenvalue above the threshold, NaN, or no convergence; with figures.
    """
    if rank < 1:
        raise InputError(f"the rank must be at least 1, found {rank}")
    if is_small(matrix.n_params, rank):
        dense = matrix.dense(advance)
        _check_finite(dense)
        values, vectors = np.linalg.eigh((dense + dense.T) / 2)
        lowest = float(values[0])
    else:
        values, vectors, lowest = _lanczos(matrix, rank, tolerance, advance)
    values = values + shift
    order = np.argsort(values)[::-1][:rank]
    order = order[values[order] > threshold]
    if len(order) == 0:
        raise InputError(
            f"no eigenvalue of the curvature exceeds {threshold:g}, "
            f"the largest is {values.max():.3g}"
        )
    return Eigenpairs(values[order], vectors[:, order], lowest, matrix.n_products)


def _lanczos(
    matrix: Hessian, rank: int, tolerance: float, advance: Callable[[int], object]
) -> tuple[np.ndarray, np.ndarray, float]:
    """Eigenpairs by ARPACK, and the smallest Ritz value on its first Krylov basis."""
    n_basis = min(matrix.n_params, max(2 * rank + 1, 20))
    basis: list[np.ndarray] = []
    images: list[np.ndarray] = []

    def product(v: np.ndarray) -> np.ndarray:
        image = matrix.matvec(v)
        _check_finite(image)
        if len(basis) < n_basis:
            basis.append(v.reshape(-1).copy())
            images.append(image)
        advance(1)
        return image

    start = np.random.default_rng(0).standard_normal(matrix.n_params)
    operator = LinearOperator(matrix.shape, matvec=product, dtype=np.float64)
    try:
        values, vectors = eigsh(operator, k=rank, which="LA", v0=start, ncv=n_basis, tol=tolerance)
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


def _check_finite(array: np.ndarray) -> None:
    if not np.isfinite(array).all():
        raise InputError("the curvature has NaN or infinite values; the network's loss overflows")
