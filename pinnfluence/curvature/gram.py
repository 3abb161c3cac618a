"""Curvature matrices that are sums of outer products of the residuals' gradients."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from scipy.linalg.blas import dsyrk
from torch import Tensor

from pinnfluence.curvature.matrix_store import MatrixStore
from pinnfluence.curvature.operator import Curvature, mirror
from pinnfluence.loss.differentiators import jacobian
from pinnfluence.loss.differentiators.per_sample import flat_gradient, leaves
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import Collocation
from pinnfluence.runtime.devices import in_float64

BLOCK_BYTES = 160_000_000
"""Memory of the gradient rows that are made at a time, at least those of one batch."""


class Gram(Curvature):
    """A matrix ``sum_i sum_k d_ik grad r_k(z_i) grad r_k(z_i)^T`` with ``d_ik >= 0``.

    It is never indefinite. With ``A = d^1/2 J``, J the Jacobian of the residuals, it is ``A^T A``.
    Products take the Jacobian times a vector, then a vector times the Jacobian, both in reverse
    mode; the dense matrix comes from Jacobian rows, block by block. See ``Curvature`` for the
    arguments. A kind of matrix gives ``_outer_weights``.
    """

    semidefinite = True
    has_rows = True

    @abstractmethod
    def _outer_weights(self, name: str, residuals: Tensor) -> Tensor:
        """d of a loss term, ``[n]`` from its residuals ``[n]``."""

    @property
    def n_steps(self) -> int:
        """Residuals of this process."""
        return self.n_residuals // self.executor.n_processes

    @property
    def n_parts(self) -> int:
        """Blocks of points."""
        return len(self._shared_blocks())

    def _products(self, v: Tensor) -> list[Tensor]:
        return [self._product(chunk, v) for chunk in self._chunks()]

    def _product(self, chunk: Loss, v: Tensor) -> Tensor:
        """``J^T d J v`` of a chunk. With ``g(u) = J^T u``, linear in u, ``J v = d(g . v)/du``."""
        theta = leaves(chunk.pinn.params)
        with torch.enable_grad():
            residuals = chunk.collocation.residuals(theta)
            stacked = torch.cat(list(residuals.values()))
            u = torch.zeros_like(stacked, requires_grad=True)
            if not stacked.requires_grad:  # no residual depends on theta
                return torch.zeros_like(v)
            pulled = flat_gradient(stacked, theta.values(), u, create_graph=True)
        (pushed,) = torch.autograd.grad(pulled, u, v)
        d = torch.cat([self._outer_weights(n, r.detach()) for n, r in residuals.items()])
        return flat_gradient(stacked, theta.values(), d * pushed)

    def _blocks(self) -> Iterator[Collocation]:
        """The points of blocks of rows of A; equation by equation."""
        n_rows = max(1, BLOCK_BYTES // (8 * self.n_params))
        for one in self.loss.collocation.singles():
            size = max(self.executor.batch_size, n_rows // len(one.names[0]))
            yield from one.chunks(size)

    def _shared_blocks(self) -> Sequence[Collocation]:
        return self.executor.share(list(self._blocks()))

    def _block(self, chunk: Collocation) -> dict[str, Tensor]:
        """A block of rows of A, ``[n, n_params]`` by name, in float64 (see ``in_float64``)."""
        parts = self.executor.map(
            self._rows,
            list(chunk.chunks(self.executor.batch_size)),
            chunk.in_threads,
            self.n_params,
        )
        return {name: torch.cat([part[name] for part in parts]) for name in chunk.names[0]}

    def _rows(self, chunk: Collocation) -> dict[str, Tensor]:
        return {
            name: self._scales(name, r)[:, None] * in_float64(rows)
            for name, (r, rows) in jacobian(chunk).items()
        }

    def dense(self, store: MatrixStore | None = None) -> np.ndarray:
        """The whole matrix, ``[n_params, n_params]``, by a symmetric update for each block.

        Args:
            store: keeps the sum of the blocks that are finished, and gives it back.
        """
        store = store or MatrixStore()
        blocks = self._shared_blocks()
        total, done = store.begin(self.n_params, len(blocks))
        for number, chunk in enumerate(blocks, 1):
            if number > done:
                total = add_gram(total, torch.cat(list(self._block(chunk).values())))
                store.note(total, number)
            self.executor.advance(chunk.n_residuals)
        self.executor.sum(torch.from_numpy(total.T))
        store.finish(total)
        mirror(total)
        return total

    def row_blocks(
        self, dtype: torch.dtype, done: int = 0
    ) -> Iterator[list[tuple[str, slice, Tensor]]]:
        """This process's rows of A, without the first ``done`` of ``n_parts`` blocks.

        A block is a list of batches: the loss term, which of the rows of A they are, and the rows
        ``[n, n_params]`` in a dtype.
        """
        ends = np.cumsum([0, *map(len, self.loss.collocation.term_rows().values())]).tolist()
        first = dict(zip(self.loss.collocation.term_rows(), ends, strict=False))
        blocks = []
        for chunk in self._blocks():
            blocks.append((chunk, {name: first[name] for name in chunk.names[0]}))
            first |= {name: first[name] + len(chunk) for name in chunk.names[0]}
        for number, (chunk, starts) in enumerate(self.executor.share(blocks), 1):
            if number > done:
                yield self._batches_of_rows(chunk, starts, dtype)
            self.executor.advance(chunk.n_residuals)

    def _batches_of_rows(
        self, chunk: Collocation, starts: dict[str, int], dtype: torch.dtype
    ) -> list[tuple[str, slice, Tensor]]:
        def of_batch(batch: Collocation) -> dict[str, Tensor]:
            return {
                name: in_float64(rows).to(dtype).mul_(self._scales(name, r)[:, None].to(dtype))
                for name, (r, rows) in jacobian(batch).items()
            }

        batches = list(chunk.chunks(self.executor.batch_size))
        found: list[tuple[str, slice, Tensor]] = []
        for part in self.executor.map(of_batch, batches, chunk.in_threads, self.n_params):
            for name, rows in part.items():
                found.append((name, slice(starts[name], starts[name] + len(rows)), rows))
                starts[name] += len(rows)
        return found

    def _scales(self, name: str, residuals: Tensor) -> Tensor:
        return self._outer_weights(name, in_float64(residuals)).sqrt()

    def rows(self) -> np.ndarray:
        """A itself, ``[n_residuals, n_params]``, term by term."""
        whole: dict[str, list[np.ndarray]] = {
            name: [] for name in self.loss.collocation.term_rows()
        }
        for chunk in self._blocks():
            for name, rows in self._block(chunk).items():
                whole[name].append(rows.cpu().numpy())
            self.executor.advance(chunk.n_residuals)
        nothing = np.zeros((0, self.n_params))
        return np.concatenate([nothing, *(part for parts in whole.values() for part in parts)])


def add_gram(total: np.ndarray, rows: Tensor) -> np.ndarray:
    """``total + rows^T rows``, in place: the lower triangle of a Fortran-ordered matrix."""
    if rows.device.type == "cpu":
        return dsyrk(1.0, rows.numpy().T, 1.0, total, lower=1, overwrite_c=1)
    total += (rows.T @ rows).cpu().numpy()
    return total
