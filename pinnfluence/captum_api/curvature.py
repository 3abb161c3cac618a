"""The Hessian of any PyTorch model's loss as an operator, for the interface of captum."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pinnfluence.captum_api.gradients import Loss
from pinnfluence.curvature.lanczos import top_eigenpairs
from pinnfluence.curvature.operators.hessian import GRAPH_BUDGET_BYTES
from pinnfluence.errors import InputError
from pinnfluence.loss.differentiators.per_sample import (
    by_batched_backward,
    by_loop,
    flat_gradient,
    leaves,
)
from pinnfluence.runtime.devices import float64_array, tensor_like
from pinnfluence.runtime.warn_once import reason_of, warn_once

COLUMNS = 64
"""Most columns of the dense matrix from one batched product, which takes as many times the memory
of the gradient's graph."""


class LossHessian:
    """Hessian ``H = sum_b nabla^2 l_b(theta)`` of the total loss l_b of all batches b.

    Products are reverse over reverse and therefore need nothing but a model that PyTorch can
    differentiate twice. The graphs of the gradients are kept between products where their
    measured size allows.

    Args:
        loss: the loss of a batch. theta: parameters by name. batches: the data. advance: receives
            finished products, for a progress bar.

    Raises:
        InputError: no batches.
    """

    def __init__(
        self,
        loss: Loss,
        theta: dict[str, Tensor],
        batches: Sequence[Any],
        advance: Callable[[int], object] = lambda n: None,
    ) -> None:
        if not batches:
            raise InputError("expected data for the Hessian, found none")
        self._loss, self._batches, self.advance = loss, batches, advance
        self._theta = leaves(theta)
        self.dtype = next(iter(theta.values())).dtype
        self.n_params = sum(p.numel() for p in theta.values())
        self.n_products = 0
        self._gradients: list[Tensor] = []
        size = _graph_bytes(self._gradient(batches[0]))
        self._keep = size * len(batches) <= GRAPH_BUDGET_BYTES
        self._columns = min(COLUMNS, max(1, GRAPH_BUDGET_BYTES // max(1, size)))

    @property
    def shape(self) -> tuple[int, int]:
        """``(n_params, n_params)``."""
        return self.n_params, self.n_params

    def matvec(self, vector: np.ndarray | Tensor) -> np.ndarray:
        """Product ``H v`` of shape ``[n_params]``."""
        return self.matmat(np.asarray(vector).reshape(-1, 1))[:, 0]

    def matmat(self, vectors: np.ndarray) -> np.ndarray:
        """Products ``H V`` of shape ``[n_params, n]`` with the columns of a matrix."""
        self.n_products += vectors.shape[1]
        like = next(iter(self._theta.values()))
        rows = tensor_like(np.ascontiguousarray(vectors.T), like)
        total = torch.zeros_like(rows)
        if self._keep and not self._gradients:
            self._gradients = [self._gradient(batch) for batch in self._batches]
        for number, batch in enumerate(self._batches):
            gradient = self._gradients[number] if self._keep else self._gradient(batch)
            if gradient.requires_grad:  # otherwise it does not depend on theta
                total += self._products(gradient, rows)
        return float64_array(total.T)

    def dense(self) -> np.ndarray:
        """The whole matrix ``[n_params, n_params]``, made symmetric."""
        unit, blocks = np.eye(self.n_params), []
        for first in range(0, self.n_params, self._columns):
            blocks.append(self.matmat(unit[:, first : first + self._columns]))
            self.advance(blocks[-1].shape[1])
        matrix = np.concatenate(blocks, axis=1)
        return (matrix + matrix.T) / 2

    def _gradient(self, batch: Any) -> Tensor:
        with torch.enable_grad():
            outputs = self._loss.outputs(self._theta, batch[:-1])
            total = self._loss.total(outputs, batch[-1])
            return flat_gradient(total, self._theta.values(), create_graph=True)

    def _products(self, gradient: Tensor, rows: Tensor) -> Tensor:
        """Products of one batch's Hessian with rows ``[n, n_params]``."""
        if len(rows) > 1:
            try:
                return by_batched_backward(gradient, self._theta, rows)
            except RuntimeError as error:  # an operation without a batched derivative
                warn_once(
                    self._loss.model,
                    f"Hessian of {type(self._loss.model).__name__} column by column, which is "
                    f"slower than batched products: {reason_of(error)}",
                )
        return torch.stack(by_loop((gradient @ row for row in rows), self._theta))


def inverse_root(hessian: LossHessian, rank: int, shift: float, threshold: float) -> Tensor:
    """``R = V Lambda^-1/2``, ``[n_params, rank]``, with ``R R^T ~ (H + shift I)^-1``.

    Of the ``rank`` largest eigenvalues of H + shift I those above ``threshold``, in rising order;
    each column with the sign that makes its sum positive, as captum has it.

    Raises:
        InputError: a setting out of range, no eigenvalue above the threshold, NaN, or no
            convergence; with figures.
    """
    if rank < 1:
        raise InputError(f"expected projection_dim of at least 1, found {rank}")
    if threshold < 0:
        raise InputError(f"expected hessian_inverse_tol of at least 0, found {threshold}")
    pairs = top_eigenpairs(hessian, rank, shift, threshold, advance=hessian.advance)
    noise = torch.finfo(hessian.dtype).eps * pairs.values[0]
    n_noise = int((pairs.values < noise).sum())
    if n_noise:
        warnings.warn(
            f"{n_noise} of {len(pairs.values)} eigenvalues of the Hessian are below the rounding "
            f"error {noise:.1e} of {hessian.dtype} and dominate the scores; raise "
            "hessian_inverse_tol to that, lower projection_dim or take float64",
            stacklevel=4,
        )
    signs = np.where(pairs.vectors.sum(0) > 0, 1.0, -1.0)
    R = (pairs.vectors * signs / np.sqrt(pairs.values))[:, ::-1]
    return torch.as_tensor(R.copy(), dtype=hessian.dtype, device="cpu")


def _graph_bytes(output: Tensor) -> int:
    """Memory of the tensors that the graph of an output holds, each storage once."""
    # Found in the graph, since hooks on saved tensors are refused by models that use torch.func.
    sizes: dict[int, int] = {}
    seen: set[Any] = {None}
    nodes: list[Any] = [output.grad_fn]
    while nodes:
        node = nodes.pop()
        if node in seen:
            continue
        seen.add(node)
        nodes += [following for following, _ in node.next_functions]
        saved = [getattr(node, name) for name in dir(node) if name.startswith("_saved_")]
        for tensor in (*saved, *getattr(node, "saved_tensors", ())):
            if isinstance(tensor, Tensor):
                with contextlib.suppress(RuntimeError):  # a vmapped tensor has no storage
                    storage = tensor.untyped_storage()
                    sizes[storage.data_ptr()] = storage.nbytes()
    return sum(sizes.values())
