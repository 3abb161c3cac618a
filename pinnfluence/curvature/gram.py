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
from pinnfluence.loss.collocation import Collocation
from pinnfluence.loss.gradients import Advance, jacobian
from pinnfluence.runtime import distributed
from pinnfluence.runtime.devices import in_float64
from pinnfluence.runtime.parallel import map_in_threads
from pinnfluence.runtime.slow_ways import reason_of, tell_once

BLOCK_BYTES = 160_000_000
"""Memory of the gradient rows that are made at a time, at least those of one batch."""


class Gram(Curvature):
    """A matrix ``sum_i sum_k d_ik grad r_k(z_i) grad r_k(z_i)^T`` with ``d_ik >= 0``.

    It is never indefinite. With ``A = d^1/2 J``, J the Jacobian of the residuals, it is ``A^T A``.
    Products are a Jacobian times a vector (forward mode), then a vector times the Jacobian (reverse
    mode); the dense matrix comes from Jacobian rows, chunk by chunk. See ``Curvature`` for the
    arguments. A kind of matrix gives ``_outer_weights``.
    """

    semidefinite = True
    has_rows = True
    _is_functional = True

    @abstractmethod
    def _outer_weights(self, name: str, residuals: Tensor) -> float | Tensor:
        """d of a loss term: a number, or ``[n]`` from its residuals ``[n]``."""

    @property
    def n_steps(self) -> int:
        """Residuals of this process."""
        return self.n_residuals // distributed.world_size()

    @property
    def n_parts(self) -> int:
        """Blocks of points."""
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
                    f"slow way: products with the {type(self).__name__} matrix take all its rows, "
                    f"torch.func.jvp refuses the equations: {reason_of(error)}",
                )
        return [rows.T @ (rows @ v.to(rows)) for rows in map(self._block, self._shared_blocks())]

    def _product(
        self, chunk: Collocation, params: dict[str, Tensor], tangents: dict[str, Tensor]
    ) -> Tensor:
        x, rows = chunk.tensors()

        def residuals(params: dict[str, Tensor]) -> dict[str, Tensor]:
            return chunk.residuals(params, x, rows)

        found = torch.func.jvp(residuals, (params,), (tangents,))
        values, moved = found[0], found[1]
        cotangents = {
            name: self._outer_weights(name, values[name]) * r for name, r in moved.items()
        }
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
        rows = []
        for name, (residuals, gradients) in jacobian(chunk).items():
            scale = self._outer_weights(name, in_float64(residuals)) ** 0.5
            scale = scale[:, None] if isinstance(scale, Tensor) else scale
            rows.append(scale * in_float64(gradients))
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
