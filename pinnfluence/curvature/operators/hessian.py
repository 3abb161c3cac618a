"""The Hessian of the loss."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pinnfluence.curvature.operator import Curvature
from pinnfluence.loss.differentiators.per_sample import flat_gradient, leaves
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import Collocation
from pinnfluence.runtime.devices import float64_array, tensor_like
from pinnfluence.runtime.executor import Executor

GRAPH_BUDGET_BYTES = 1_500_000_000
"""Memory up to which the graph of the gradient is kept between products instead of built anew."""

GRAPH_TENSORS = 14
"""Tensors as large as all activations that this graph holds, measured on the flow's network."""


class Hessian(Curvature):
    """Hessian ``H = sum_ik w_k nabla^2 [r_k(z_i; theta)^2]`` of the summed loss, as an operator.

    Products are reverse over reverse. See ``Curvature`` for the other arguments.

    Args:
        keep_graph: keep the graph of the gradient between products, which saves half of the time
            and costs memory in proportion to the points; None decides by ``GRAPH_BUDGET_BYTES``.
    """

    is_hessian = True

    def __init__(
        self, loss: Loss, executor: Executor | None = None, keep_graph: bool | None = None
    ) -> None:
        super().__init__(loss, executor)
        if keep_graph is None:
            keep_graph = keeps_graph(loss.collocation, self.executor.n_processes)
        self._keep = keep_graph
        self._theta = leaves(loss.pinn.params)
        self._gradients: list[Tensor] = []

    def at(self, loss: Loss) -> Hessian:
        """The same matrix of another loss, with or without the graph as here."""
        return type(self)(loss, self.executor, self._keep)

    def _products(self, v: Tensor) -> list[Tensor]:
        if not self._keep:
            return [self._product(self._gradient(c), v) for c in self._chunks()]
        self._gradients = self._gradients or [self._gradient(c) for c in self._chunks()]
        in_threads = self.loss.collocation.in_threads
        return self.executor.map(
            lambda g: self._product(g, v), self._gradients, in_threads, self.n_params
        )

    def _matmat(self, vectors: np.ndarray) -> np.ndarray:
        if self._keep:
            return super()._matmat(vectors)
        self.n_products += vectors.shape[1]
        columns = tensor_like(np.asarray(vectors, np.float64).T, self.loss.pinn.like)
        total = torch.zeros_like(columns)

        def of_chunk(chunk: Loss) -> Tensor:
            gradient = self._gradient(chunk)  # its graph serves all columns
            return torch.stack([self._product(gradient, v, True) for v in columns])

        in_threads = self.loss.collocation.in_threads
        self.executor.add_up(total, of_chunk, self._chunks(), in_threads, self.n_params)
        return float64_array(self.executor.sum(total)).T

    def _gradient(self, chunk: Loss) -> Tensor:
        with torch.enable_grad():
            value = chunk.value(self._theta)
            return flat_gradient(value, self._theta.values(), create_graph=True)

    def _product(self, gradient: Tensor, v: Tensor, again: bool = False) -> Tensor:
        again = again or self._keep
        return flat_gradient(gradient, self._theta.values(), v, retain_graph=again)


def keeps_graph(collocation: Collocation, n_processes: int = 1) -> bool:
    """Whether a process's part of the graph of the gradient is small enough to be kept."""
    return graph_bytes(collocation) <= GRAPH_BUDGET_BYTES * n_processes


def graph_bytes(collocation: Collocation) -> int:
    """Rough size of the graph of the gradient at all points of a collocation."""
    pinn = collocation.pinn
    width = sum(p.shape[0] for p in pinn.network.parameters() if p.ndim == 2)
    n_streams = max(1, len(pinn.derivatives(collocation.equations)))
    return GRAPH_TENSORS * len(collocation) * width * n_streams * pinn.like.element_size()


OPERATOR = Hessian
