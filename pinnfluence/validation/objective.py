"""The training loss of a PINN, with a proximal term, as a function of one vector of parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from pinnfluence.field.module_call import copied
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import Params, Pinn
from pinnfluence.loss.points import PointTensors


def flat_parameters(pinn: Pinn) -> Tensor:
    """The parameters theta as one vector ``[n_params]``, float64."""
    return torch.cat([p.flatten() for p in pinn.params.values()]).double()


def with_parameters(pinn: Pinn, theta: Tensor) -> Pinn:
    """The same PINN in float64 with the parameters theta ``[n_params]``; constants stay."""
    network = copied(pinn.network).double()
    of_network = dict(network.named_parameters())
    trained = [of_network[name] for name in pinn.params]
    torch.nn.utils.vector_to_parameters(theta.detach().clone(), trained)
    return replace(pinn, network=network)


@dataclass(frozen=True)
class Objective:
    """``F(theta) = sum_k w_k sum_{i in S_k} r_k(z_i; theta)^2 + mu |theta - theta_0|^2``.

    With a weight decay of the loss, ``weight_decay |theta|^2 / 2`` is added.

    loss: the weighted squares at the points that are left. proximal: mu. start: theta_0,
    ``[n_params]``.
    """

    loss: Loss
    proximal: float
    start: Tensor

    def value(self, theta: Tensor) -> float:
        """F at theta, in a forward pass alone."""
        with torch.no_grad():
            return float(self._value(theta))

    def gradient(self, theta: Tensor) -> tuple[float, Tensor, Tensor]:
        """F, its gradient with a graph back to theta, and that theta: for ``product``."""
        theta = theta.detach().requires_grad_()
        with torch.enable_grad():
            loss = self._value(theta)
            (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
        return float(loss.detach()), gradient, theta

    @staticmethod
    def product(gradient: Tensor, theta: Tensor, vector: Tensor) -> Tensor:
        """The Hessian of F times a vector ``[n_params]``: reverse over reverse."""
        return torch.autograd.grad(gradient, theta, vector, retain_graph=True)[0]

    @cached_property
    def _tensors(self) -> PointTensors:
        return self.loss.collocation.tensors(self.start)

    def _value(self, theta: Tensor) -> Tensor:
        value = self.loss.value(self._params(theta), self._tensors)
        value = value + 0.5 * self.loss.weight_decay * theta.square().sum()
        return value + self.proximal * (theta - self.start).square().sum()

    def _params(self, theta: Tensor) -> Params:
        params = self.loss.pinn.params
        parts = theta.split([p.numel() for p in params.values()])
        return {n: part.view(p.shape) for (n, p), part in zip(params.items(), parts, strict=True)}


def values_at(pinn: Pinn, theta: Tensor, x: np.ndarray) -> np.ndarray:
    """Outputs and derived quantities at points ``[n, n_inputs]``, ``[n, n_quantities]``."""
    values = with_parameters(pinn, theta).at(x, [pinn.observables]).evaluate(max(1, len(x)))
    return np.stack(list(values.values()), 1)
