"""Equations of one variable: systems, beams, delays, integrals."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .common import (
    UNIT,
    boundary,
    dde,
    fnn,
    hessian,
    initially,
    jacobian,
    left,
    right,
    trained,
    zero,
)

TIME = dde.geometry.TimeDomain(0, 2)


def ode_system() -> Any:
    def ode(x: Tensor, y: Tensor) -> list[Tensor]:
        return [jacobian(y, x, i=0) - y[:, 1:], jacobian(y, x, i=1) + y[:, 0:1]]

    conditions = [
        dde.icbc.IC(TIME, zero, initially, component=0),
        dde.icbc.IC(TIME, lambda x: 1, initially, component=1),
    ]
    data = dde.data.PDE(TIME, ode, conditions, 14, 2, num_test=20)
    return trained(data, fnn(1, 6, 6, 2))


def lotka_volterra() -> Any:
    """Features of sines, initial values by a transform of the output."""

    def ode(x: Tensor, y: Tensor) -> list[Tensor]:
        r, p = y[:, 0:1], y[:, 1:2]
        return [
            jacobian(y, x, i=0) - (2 * r - 0.4 * r * p),
            jacobian(y, x, i=1) - (0.2 * r * p - p),
        ]

    net = fnn(3, 6, 6, 2)
    net.apply_feature_transform(lambda t: torch.cat([t, torch.sin(t), torch.sin(2 * t)], 1))
    net.apply_output_transform(
        lambda t, y: torch.cat(
            [y[:, 0:1] * torch.tanh(t) + 1, y[:, 1:2] * torch.tanh(t) + 0.5], dim=1
        )
    )
    return trained(dde.data.PDE(TIME, ode, [], 14, 2), net)


def second_order_start() -> Any:
    """The initial slope by an ``OperatorBC`` at a place given by its value."""

    def ode(t: Tensor, y: Tensor) -> Tensor:
        return hessian(y, t) + 0.3 * jacobian(y, t) + 4 * y - torch.cos(t)

    conditions = [
        dde.icbc.IC(TIME, lambda x: -1, lambda _, on: on),
        dde.icbc.OperatorBC(
            TIME, lambda x, y, _: jacobian(y, x, i=0, j=0) - 2, lambda x, _: np.isclose(x[0], 0)
        ),
    ]
    data = dde.data.TimePDE(TIME, ode, conditions, 14, 2)
    return trained(data, fnn(1, 6, 6, 1), loss_weights=[0.01, 1, 1])


def euler_beam() -> Any:
    """Fourth derivative, moments and forces at the free end."""

    def second(x: Tensor, y: Tensor) -> Tensor:
        return hessian(y, x)

    conditions = [
        dde.icbc.DirichletBC(UNIT, zero, left),
        dde.icbc.NeumannBC(UNIT, zero, left),
        dde.icbc.OperatorBC(UNIT, lambda x, y, _: second(x, y), right),
        dde.icbc.OperatorBC(UNIT, lambda x, y, _: jacobian(second(x, y), x), right),
    ]
    data = dde.data.PDE(UNIT, lambda x, y: hessian(second(x, y), x) + 1, conditions, 10, 2)
    return trained(data, fnn(1, 6, 6, 1))


def delay() -> Any:
    """A delay differential equation: the network is called at an earlier time."""
    net = fnn(1, 6, 6, 1)

    def ode(t: Tensor, y: Tensor) -> Tensor:
        return jacobian(y, t) + y - 0.5 * net(t - 0.3)

    data = dde.data.PDE(TIME, ode, dde.icbc.IC(TIME, lambda x: 1, initially), 14, 2)
    return trained(data, net)


def quadrature() -> Any:
    """An integral of the network by Gauss's rule, in every residual."""
    net = fnn(1, 6, 6, 1)
    nodes, weights = np.polynomial.legendre.leggauss(5)

    def equation(x: Tensor, y: Tensor) -> Tensor:
        places = 0.5 * x * (torch.as_tensor(nodes).to(x) + 1)
        values = net(places.reshape(-1, 1)).reshape(places.shape)
        integral = 0.5 * x * (values * torch.as_tensor(weights).to(x)).sum(1, keepdim=True)
        return jacobian(y, x) + y - integral - 1

    data = dde.data.PDE(UNIT, equation, dde.icbc.DirichletBC(UNIT, zero, left), 12, 2)
    return trained(data, net)


def conserved_mass() -> Any:
    """The integral of the network is prescribed by a condition that calls it at fixed places."""
    net = fnn(1, 6, 6, 1)
    grid = np.linspace(0, 1, 9)[:, None]

    def mass(x: Tensor, y: Tensor, X: Any) -> Tensor:
        return net(torch.as_tensor(grid).to(x)).mean() - 0.5 + 0 * y

    conditions = [
        dde.icbc.NeumannBC(UNIT, zero, boundary),
        dde.icbc.OperatorBC(UNIT, mass, left),
    ]
    data = dde.data.PDE(UNIT, lambda x, y: hessian(y, x) - x + 0.5, conditions, 12, 2)
    return trained(data, net)


MODELS = (
    *(ode_system, lotka_volterra, second_order_start, euler_beam),
    *(delay, quadrature, conserved_mass),
)
