"""Reverse mode alone: for equations that call autograd or the network themselves."""

from __future__ import annotations

import torch
from torch import Tensor

from pinnfluence.loss.differentiators.base import Differentiator, Gradients
from pinnfluence.loss.differentiators.per_sample import (
    BACKWARD_SAMPLES,
    by_batched_backward,
    by_loop,
    leaves,
)
from pinnfluence.loss.pinn import Collocation, Params
from pinnfluence.runtime.warn_once import reason_of, warn_once


class DoubleBackward(Differentiator):
    """Backward passes through residuals that may themselves be made of backward passes.

    Needs nothing but residuals with a graph back to theta. Slower than the others: the work of a
    batched backward pass grows with the square of its points, so that few are taken together.
    """

    name = "double backward"

    def jacobian(self, chunk: Collocation) -> Gradients:
        like, n_params = chunk.pinn.like, chunk.pinn.n_params
        nothing = (like.new_zeros(0), like.new_zeros(0, n_params))
        parts = [dict.fromkeys(chunk.names[0], nothing)]
        parts += [_jacobian(part) for part in chunk.chunks(BACKWARD_SAMPLES)]
        return {
            name: (torch.cat([p[name][0] for p in parts]), torch.cat([p[name][1] for p in parts]))
            for name in chunk.names[0]
        }


def _jacobian(chunk: Collocation) -> Gradients:
    theta = leaves(chunk.pinn.params)
    with torch.enable_grad():
        residuals = chunk.residuals(theta)
    return {name: (r.detach(), _rows(chunk, r, theta)) for name, r in residuals.items()}


def _rows(chunk: Collocation, residuals: Tensor, theta: Params) -> Tensor:
    if not residuals.requires_grad:  # it does not depend on theta
        return residuals.new_zeros(len(residuals), chunk.pinn.n_params)
    unit = torch.eye(len(residuals), dtype=residuals.dtype, device=residuals.device)
    try:
        return by_batched_backward(residuals, theta, unit)
    except RuntimeError as error:  # an operation without a batched derivative
        warn_once(
            chunk.pinn.network,
            f"slower method, same scores: gradients of {', '.join(chunk.names[0])} take a backward "
            f"pass for each point: {reason_of(error)}",
        )
        return torch.stack(by_loop(residuals, theta)).detach()
