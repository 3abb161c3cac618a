"""Gradients of single samples of any function of parameters, in three ways.

From fast and demanding to slow and undemanding: ``torch.func.vmap``, which needs a function of one
sample that PyTorch can transform; a batched backward pass, which needs nothing but an autograd
graph whose backward pass can be batched; one backward pass after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

BACKWARD_SAMPLES = 32
"""Samples in one batched backward pass, whose work grows with their square; measured: 16 and 64
samples take 1.4 and 1.2 times as long a sample on a residual of second order."""


def leaves(theta: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameters as leaves of a new graph."""
    return {name: p.detach().requires_grad_() for name, p in theta.items()}


def flat_gradient(
    output: Tensor, theta: Iterable[Tensor], vector: Tensor | None = None, **graph: bool
) -> Tensor:
    """Gradient ``[n_params]`` of a scalar by theta, or of ``vector . output``.

    graph: ``retain_graph``, ``create_graph`` as for ``torch.autograd.grad``.
    """
    found = torch.autograd.grad(output, list(theta), vector, materialize_grads=True, **graph)
    return torch.cat([g.flatten() for g in found])


def by_vmap(
    function: Callable[..., Tensor],
    theta: Mapping[str, Tensor],
    samples: tuple[Any, ...],
    in_dims: tuple[int | None, ...],
) -> tuple[Tensor, Tensor]:
    """Values ``[n]`` of ``function(theta, *sample)`` and gradients ``[n, n_params]`` by theta.

    Args:
        samples, in_dims: what the function takes besides theta, and the axis of the samples in
            each (None: it is the same for all), as for ``torch.func.vmap``.
    """

    def twice(theta: Mapping[str, Tensor], *sample: Any) -> tuple[Tensor, Tensor]:
        value = function(theta, *sample)
        return value, value

    gradient = torch.func.vmap(torch.func.grad(twice, has_aux=True), in_dims=(None, *in_dims))
    rows, values = gradient(dict(theta), *samples)
    flat = torch.cat([rows[name].reshape(len(values), -1) for name in theta], 1)
    return values.detach(), flat.detach()


def by_batched_backward(outputs: Tensor, theta: Mapping[str, Tensor], vectors: Tensor) -> Tensor:
    """Derivatives ``[n, n_params]`` of ``vectors @ outputs`` by theta; the graph is kept.

    vectors: ``[n, *outputs.shape]``, all in one batched backward pass.
    """
    found = torch.autograd.grad(
        outputs,
        list(theta.values()),
        vectors,
        retain_graph=True,
        is_grads_batched=True,
        allow_unused=True,  # materialize_grads gives zeros without the batch's axis
    )
    n_rows = len(vectors)
    rows = [
        vectors.new_zeros(n_rows, p.numel()) if g is None else g.reshape(n_rows, -1)
        for g, p in zip(found, theta.values(), strict=True)
    ]
    return torch.cat(rows, 1)


def by_loop(outputs: Iterable[Tensor], theta: Mapping[str, Tensor]) -> list[Tensor]:
    """The gradient ``[n_params]`` of each of some scalars by theta; the graph is kept."""
    return [flat_gradient(output, theta.values(), retain_graph=True) for output in outputs]
