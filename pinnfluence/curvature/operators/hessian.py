"""The Hessian of the loss."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pinnfluence.curvature.operator import Curvature
from pinnfluence.loss.collocation import Collocation
from pinnfluence.runtime import distributed
from pinnfluence.runtime.parallel import map_in_threads

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

    def at(self, collocation: Collocation) -> Hessian:
        """The same matrix of other points, with or without the graph as here."""
        return type(self)(collocation, self.weights, self.batch_size, self._keep)

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


OPERATOR = Hessian
