"""The Hessian of the loss and its Gauss-Newton matrix as operators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from scipy.linalg.blas import dsyrk
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from pinnfluence import distributed
from pinnfluence.curvature.matrix_store import MatrixStore
from pinnfluence.devices import float64_array, in_float64, tensor_like
from pinnfluence.gradients import Advance, jacobian
from pinnfluence.parallel import map_in_threads, pays_in_threads
from pinnfluence.slow_ways import reason_of, tell_once
from pinnfluence.terms import Collocation

GRAPH_BUDGET_BYTES = 1_500_000_000
"""Memory up to which the graph of the gradient is kept between products instead of built anew."""

GRAPH_TENSORS = 14
"""Tensors as large as all activations that this graph holds, measured on the flow's network."""

BLOCK_BYTES = 160_000_000
"""Memory of the gradient rows that are made at a time, at least those of one batch."""


class Curvature(ABC):
    """A symmetric matrix ``[n_params, n_params]`` that belongs to ``L = sum_ik w_k r_k(z_i)^2``.

    It is summed over all points before anything is done with it, so that the result does not
    depend on ``batch_size`` beyond rounding. Several processes share the points, see
    ``distributed``: then all of them must call ``matvec`` and ``dense``.

    Args:
        collocation: the loss terms at the training points.
        weights: w_k by name of the loss term.
        batch_size: number of points whose derivatives are held at a time.
    """

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

    @property
    def n_steps(self) -> int:
        """Number of steps in which ``dense`` makes the matrix, after each of which it can stop."""
        return self.n_params

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


class Hessian(Curvature):
    """Hessian ``H = sum_i sum_k w_k nabla^2 r_k(z_i; theta)^2`` of the summed loss, as an operator.

    Products are reverse over reverse. See ``Curvature`` for the other arguments.

    Args:
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
        super().__init__(collocation, weights, batch_size)
        if keep_graph is None:
            keep_graph = keeps_graph(collocation)
        self._keep = keep_graph
        self._gradients: list[Tensor] = []

    def _products(self, v: Tensor) -> list[Tensor]:
        if not self._keep:
            return [self._product(self._gradient(c), v) for c in self._chunks()]
        self._gradients = self._gradients or [self._gradient(c) for c in self._chunks()]
        return map_in_threads(lambda g: self._product(g, v), self._gradients, self._in_threads())

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


class GaussNewton(Curvature):
    """Gauss-Newton matrix ``2 sum_i sum_k w_k grad r_k(z_i) grad r_k(z_i)^T``, as an operator.

    What remains of the Hessian where the residuals are small; it is never indefinite. With
    ``A = (2 w)^1/2 J``, J the Jacobian of the residuals, it is ``A^T A``. Products are a Jacobian
    times a vector (forward mode), then a vector times the Jacobian (reverse mode); the dense
    matrix comes from Jacobian rows, chunk by chunk. See ``Curvature`` for the arguments.
    """

    _is_functional = True

    @property
    def n_residuals(self) -> int:
        """Number of residuals: the sum of |S_k| over the loss terms."""
        return sum(len(rows) for rows in self.collocation.term_rows().values())

    @property
    def n_steps(self) -> int:
        """Number of blocks of points."""
        return len(self._shared_blocks())

    def _products(self, v: Tensor) -> list[Tensor]:
        sizes = [p.numel() for p in self._params.values()]
        tangents = {
            name: part.reshape(p.shape)
            for (name, p), part in zip(self._params.items(), v.split(sizes), strict=True)
        }
        params = {name: p.detach() for name, p in self._params.items()}
        if self._is_functional:
            try:
                return [self._product(chunk, params, tangents) for chunk in self._chunks()]
            except (RuntimeError, TypeError, ValueError) as error:  # such as calls of numpy
                self._is_functional = False
                tell_once(
                    self.collocation.pinn.network,
                    "slow way: products with the Gauss-Newton matrix take all its rows, "
                    f"torch.func.jvp refuses the equations: {reason_of(error)}",
                )
        return [rows.T @ (rows @ v.to(rows)) for rows in map(self._block, self._shared_blocks())]

    def _product(
        self, chunk: Collocation, params: dict[str, Tensor], tangents: dict[str, Tensor]
    ) -> Tensor:
        x, rows = chunk.tensors()

        def residuals(params: dict[str, Tensor]) -> dict[str, Tensor]:
            return chunk.residuals(params, x, rows)

        moved = torch.func.jvp(residuals, (params,), (tangents,))[1]
        cotangents = {name: 2 * self.weights[name] * r for name, r in moved.items()}
        pull_back = torch.func.vjp(residuals, params)[1]
        (product,) = pull_back(cotangents)
        return torch.cat([product[name].flatten() for name in params])

    def _blocks(self) -> Iterator[Collocation]:
        """The points of blocks of rows of A; equation by equation."""
        n_rows = max(1, BLOCK_BYTES // (8 * self.n_params))
        for number, names in enumerate(self.collocation.names):
            one = self.collocation.only(number)
            yield from one.chunks(max(self.batch_size, n_rows // len(names)))

    def _shared_blocks(self) -> Sequence[Collocation]:
        return distributed.share(list(self._blocks()))

    def _block(self, chunk: Collocation) -> Tensor:
        """A block ``[n, n_params]`` of rows of A, in float64 (see ``in_float64``)."""
        parts = list(chunk.chunks(self.batch_size))
        return torch.cat(map_in_threads(self._rows, parts, self._in_threads()))

    def _rows(self, chunk: Collocation) -> Tensor:
        rows = [
            (2 * self.weights[name]) ** 0.5 * in_float64(gradients)
            for name, (_, gradients) in jacobian(chunk).items()
        ]
        return torch.cat(rows)

    def dense(
        self, advance: Advance = lambda n: None, store: MatrixStore | None = None
    ) -> np.ndarray:
        """The whole matrix, ``[n_params, n_params]``, by a symmetric update for each block.

        Args:
            store: keeps the sum of the blocks that are finished, and gives it back.
        """
        store = store or MatrixStore()
        blocks = self._shared_blocks()
        total, done = store.begin(self.n_params, len(blocks))
        for number, chunk in enumerate(blocks, 1):
            n_rows = len(chunk.x) * len(chunk.names[0])
            if number > done:
                total = add_gram(total, self._block(chunk))
                store.note(total, number)
            advance(n_rows)
        distributed.sum_over_ranks(torch.from_numpy(total.T))
        store.finish(total)
        mirror(total)
        return total

    def rows(self, advance: Advance = lambda n: None) -> np.ndarray:
        """A itself, ``[n_residuals, n_params]``; for more parameters than residuals."""
        whole = np.empty((self.n_residuals, self.n_params))
        start = 0
        for block in map(self._block, self._blocks()):
            whole[start : start + len(block)] = block.cpu().numpy()
            start += len(block)
            advance(len(block))
        return whole


def add_gram(total: np.ndarray, rows: Tensor) -> np.ndarray:
    """``total + rows^T rows``, in place: the lower triangle of a Fortran-ordered matrix."""
    if rows.device.type == "cpu":
        return dsyrk(1.0, rows.numpy().T, 1.0, total, lower=1, overwrite_c=1)
    total += (rows.T @ rows).cpu().numpy()
    return total


def mirror(matrix: np.ndarray, block: int = 1024) -> None:
    """Copy the lower triangle of a square matrix to the upper one, in place."""
    for start in range(0, len(matrix), block):
        stop = start + block
        corner = matrix[start:stop, start:stop]
        corner[:] = np.tril(corner) + np.tril(corner, -1).T
        matrix[start:stop, stop:] = matrix[stop:, start:stop].T


def keeps_graph(collocation: Collocation) -> bool:
    """Whether a process's part of the graph of the gradient is small enough to be kept."""
    return graph_bytes(collocation) <= GRAPH_BUDGET_BYTES * distributed.world_size()


def graph_bytes(collocation: Collocation) -> int:
    """Rough size of the graph of the gradient at all points of a collocation."""
    pinn = collocation.pinn
    params = pinn.params
    width = sum(p.shape[0] for p in params.values() if p.ndim == 2)
    n_streams = len(pinn.derivatives(collocation.equations))
    itemsize = next(iter(params.values())).element_size()
    return GRAPH_TENSORS * len(collocation.x) * width * n_streams * itemsize
