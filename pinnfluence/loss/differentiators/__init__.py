"""Gradients of the residuals of single points by the parameters, in three ways.

``Taylor`` for the multilayer perceptron, ``Functional`` for other networks, ``DoubleBackward`` for
equations that call autograd or the network themselves.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pinnfluence.field.field import Declared
from pinnfluence.field.network import MLP
from pinnfluence.loss.differentiators.base import Differentiator, Gradients
from pinnfluence.loss.differentiators.double_backward import DoubleBackward
from pinnfluence.loss.differentiators.functional import Functional
from pinnfluence.loss.differentiators.per_sample import by_loop, flat_gradient, leaves
from pinnfluence.loss.differentiators.taylor import Taylor
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import Collocation

__all__ = [
    "Differentiator",
    "Gradients",
    "differentiator_of",
    "jacobian",
    "loss_gradient",
    "loss_gradients",
    "point_loss_rows",
    "projection",
    "weighted_sums",
]


def differentiator_of(chunk: Collocation) -> Differentiator:
    """The fastest differentiator for the equations and the network of a collocation."""
    residuals = [equation.residuals for equation in chunk.equations]
    by_autograd = getattr(chunk.pinn.network, "by_autograd", False)
    if by_autograd or any(isinstance(r, Declared) and r.by_autograd for r in residuals):
        return DoubleBackward()
    return Taylor() if isinstance(chunk.pinn.network, MLP) else Functional()


def jacobian(chunk: Collocation) -> Gradients:
    """Residuals ``[n]`` of one equation at its points and their gradients ``[n, n_params]``."""
    return differentiator_of(chunk).jacobian(chunk)


def projection(chunk: Collocation, basis: Tensor) -> Gradients:
    """Residuals ``[n]`` of one equation and their gradients times a basis, ``[n, rank]``."""
    return differentiator_of(chunk).projection(chunk, basis)


def point_loss_rows(chunk: Loss) -> Tensor:
    """Gradients ``grad l_i`` of the loss of each point, ``[n, n_params]``."""
    return differentiator_of(chunk.collocation).point_loss_rows(chunk)


def loss_gradients(chunk: Loss) -> tuple[Tensor, Tensor]:
    """``||grad l_i||`` of each point, ``[n]``, and ``grad L``, ``[n_params]``."""
    if len(chunk) == 0:
        like = chunk.pinn.like
        return like.new_zeros(0), like.new_zeros(chunk.pinn.n_params)
    return differentiator_of(chunk.collocation).loss_gradients(chunk)


def weighted_sums(chunk: Loss, weights: Tensor) -> Tensor:
    """``sum_i weights_i grad l_i`` for the columns of ``[n, k]``, as ``[n_params, k]``.

    From the single points' rows where Taylor mode gives them in one backward pass, else by a
    backward pass a column.
    """
    if isinstance(differentiator_of(chunk.collocation), Taylor):
        total = weights.new_zeros(weights.shape[1], chunk.pinn.n_params)
        for here, one in zip(
            chunk.collocation.points.rows, chunk.collocation.singles(), strict=True
        ):
            for name, (values, rows) in (jacobian(one) if len(one) else {}).items():
                total += (chunk.slopes(name, values)[:, None] * weights[here]).T @ rows
        return total.T
    theta = leaves(chunk.pinn.params)
    with torch.enable_grad():
        losses = chunk.point_losses(theta)
        return torch.stack(by_loop((losses @ column for column in weights.T), theta), 1)


def loss_gradient(loss: Loss, batch_size: int) -> Tensor:
    """``grad L`` ``[n_params]`` by one backward pass a batch, without the single points' rows."""
    pinn = loss.pinn
    theta = leaves(pinn.params)
    total = pinn.like.new_zeros(pinn.n_params)
    for chunk in loss.chunks(batch_size):
        with torch.enable_grad():
            value = chunk.value(theta)
        if value.requires_grad:  # it may not depend on theta
            total += flat_gradient(value, theta.values())
    return total
