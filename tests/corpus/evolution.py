"""Equations of space and time: Burgers, Allen-Cahn, heat, wave, Schroedinger, ..."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .common import (
    SQUARE,
    UNIT_TIME,
    boundary,
    dde,
    fnn,
    hessian,
    initially,
    jacobian,
    starts,
    trained,
    zero,
)


def bump(x: np.ndarray) -> np.ndarray:
    return np.sin(np.pi * x[:, 0:1])


def heat_equation(x: Tensor, y: Tensor) -> Tensor:
    return jacobian(y, x, i=0, j=1) - 0.3 * hessian(y, x, i=0, j=0)


def dirichlet_and_initial(component: int = 0) -> list[Any]:
    return [
        dde.icbc.DirichletBC(UNIT_TIME, zero, boundary, component=component),
        dde.icbc.IC(UNIT_TIME, bump, initially, component=component),
    ]


def burgers() -> Any:
    def pde(x: Tensor, y: Tensor) -> Tensor:
        y_x, y_t = jacobian(y, x, i=0, j=0), jacobian(y, x, i=0, j=1)
        return y_t + y * y_x - 0.05 * hessian(y, x, i=0, j=0)

    data = dde.data.TimePDE(UNIT_TIME, pde, dirichlet_and_initial(), 20, 8, 8)
    return trained(data, fnn(2, 6, 6, 1))


def burgers_conservative() -> Any:
    """The flux is differentiated as an expression."""

    def pde(x: Tensor, y: Tensor) -> Tensor:
        flux = jacobian(0.5 * y * y, x, i=0, j=0)
        return jacobian(y, x, i=0, j=1) + flux - 0.05 * hessian(y, x, i=0, j=0)

    data = dde.data.TimePDE(UNIT_TIME, pde, dirichlet_and_initial(), 20, 8, 8)
    return trained(data, fnn(2, 6, 6, 1))


def allen_cahn() -> Any:
    """Initial and boundary conditions hold by a transform of the output."""

    def pde(x: Tensor, y: Tensor) -> Tensor:
        return jacobian(y, x, i=0, j=1) - 0.01 * hessian(y, x, i=0, j=0) - 5 * (y - y**3)

    net = fnn(2, 6, 6, 1)
    net.apply_output_transform(
        lambda x, y: x[:, 0:1] ** 2 + x[:, 1:2] * x[:, 0:1] * (1 - x[:, 0:1]) * y
    )
    return trained(dde.data.TimePDE(UNIT_TIME, pde, [], 24), net)


def heat() -> Any:
    data = dde.data.TimePDE(UNIT_TIME, heat_equation, dirichlet_and_initial(), 20, 8, 8)
    net = fnn(2, 6, 6, 1)
    net.apply_feature_transform(lambda x: x / x.new_tensor([1.0, 0.5]))
    return trained(data, net, loss_weights=[1, 2, 3])


def heat_in_the_plane() -> Any:
    domain = dde.geometry.GeometryXTime(SQUARE, dde.geometry.TimeDomain(0, 2))

    def pde(x: Tensor, y: Tensor) -> Tensor:
        second = hessian(y, x, i=0, j=0) + hessian(y, x, i=1, j=1)
        return jacobian(y, x, i=0, j=2) - 0.1 * second - torch.exp(-x[:, 2:])

    conditions = [
        dde.icbc.NeumannBC(domain, zero, boundary),
        dde.icbc.IC(domain, lambda x: x[:, :1] * x[:, 1:2], initially),
    ]
    return trained(dde.data.TimePDE(domain, pde, conditions, 16, 10, 8), fnn(3, 5, 5, 1))


def wave() -> Any:
    """The second initial condition is an ``OperatorBC``; several frequencies as features."""

    def pde(x: Tensor, y: Tensor) -> Tensor:
        return hessian(y, x, i=1, j=1) - 4 * hessian(y, x, i=0, j=0)

    velocity = dde.icbc.OperatorBC(UNIT_TIME, lambda x, y, _: jacobian(y, x, i=0, j=1), starts)
    data = dde.data.TimePDE(UNIT_TIME, pde, [*dirichlet_and_initial(), velocity], 16, 8, 8)
    net = fnn(4, 6, 6, 1)
    net.apply_feature_transform(lambda x: torch.cat([torch.sin(3 * x), torch.cos(3 * x)], 1))
    return trained(data, net)


def diffusion_reaction() -> Any:
    """Two species."""

    def pde(x: Tensor, y: Tensor) -> list[Tensor]:
        a, b = y[:, 0:1], y[:, 1:2]
        rate = 2 * a * b**2
        a_xx = hessian(y, x, component=0, i=0, j=0)
        b_xx = hessian(y, x, component=1, i=0, j=0)
        return [
            jacobian(y, x, i=0, j=1) - 0.02 * a_xx + rate,
            jacobian(y, x, i=1, j=1) - 0.05 * b_xx + 2 * rate,
        ]

    conditions = [
        dde.icbc.DirichletBC(UNIT_TIME, lambda x: 1, boundary, component=0),
        dde.icbc.NeumannBC(UNIT_TIME, zero, boundary, component=1),
        dde.icbc.IC(UNIT_TIME, lambda x: np.exp(-20 * x[:, 0:1]), initially, component=0),
        dde.icbc.IC(UNIT_TIME, lambda x: np.exp(-20 * x[:, 0:1]), initially, component=1),
    ]
    return trained(dde.data.TimePDE(UNIT_TIME, pde, conditions, 16, 8, 8), fnn(2, 6, 6, 2))


def schroedinger() -> Any:
    """Real and imaginary part, periodic in value and slope."""

    def pde(x: Tensor, y: Tensor) -> list[Tensor]:
        u, v = y[:, 0:1], y[:, 1:2]
        u_t, v_t = jacobian(y, x, i=0, j=1), jacobian(y, x, i=1, j=1)
        u_xx = hessian(y, x, component=0, i=0, j=0)
        v_xx = hessian(y, x, component=1, i=0, j=0)
        square = u**2 + v**2
        return [u_t + 0.5 * v_xx + square * v, v_t - 0.5 * u_xx - square * u]

    conditions = [
        dde.icbc.PeriodicBC(UNIT_TIME, 0, boundary, derivative_order=order, component=component)
        for order in (0, 1)
        for component in (0, 1)
    ]
    conditions += [
        dde.icbc.IC(UNIT_TIME, lambda x: 2 / np.cosh(5 * x[:, 0:1]), initially, component=0),
        dde.icbc.IC(UNIT_TIME, zero, initially, component=1),
    ]
    data = dde.data.TimePDE(UNIT_TIME, pde, conditions, 12, 8, 6, train_distribution="pseudo")
    return trained(data, fnn(2, 6, 6, 2))


def klein_gordon() -> Any:
    def pde(x: Tensor, y: Tensor) -> Tensor:
        source = -x[:, 0:1] * torch.cos(x[:, 1:2]) + x[:, 0:1] ** 2 * torch.cos(x[:, 1:2]) ** 2
        return hessian(y, x, i=1, j=1) - hessian(y, x, i=0, j=0) + y**2 - source

    conditions = [
        dde.icbc.DirichletBC(UNIT_TIME, lambda x: x[:, 0:1] * np.cos(x[:, 1:2]), boundary),
        dde.icbc.IC(UNIT_TIME, lambda x: x[:, 0:1], initially),
        dde.icbc.OperatorBC(UNIT_TIME, lambda x, y, X: jacobian(y, x, i=0, j=1), starts),
    ]
    data = dde.data.TimePDE(
        UNIT_TIME, pde, conditions, 16, 8, 6, solution=lambda x: x[:, 0:1] * np.cos(x[:, 1:2])
    )
    return trained(data, fnn(2, 6, 6, 1), decay=("inverse time", 3000, 0.9))


def korteweg_de_vries() -> Any:
    """A third derivative."""

    def pde(x: Tensor, y: Tensor) -> Tensor:
        y_xxx = jacobian(hessian(y, x, i=0, j=0), x, i=0, j=0)
        return jacobian(y, x, i=0, j=1) + y * jacobian(y, x, i=0, j=0) + 0.01 * y_xxx

    data = dde.data.TimePDE(UNIT_TIME, pde, dirichlet_and_initial(), 12, 6, 6)
    return trained(data, fnn(2, 5, 5, 1))


def kovasznay() -> Any:
    """Steady Navier-Stokes, three outputs, one equation for each."""

    def pde(x: Tensor, y: Tensor) -> list[Tensor]:
        u, v = y[:, 0:1], y[:, 1:2]
        (u_x, u_y), (v_x, v_y), (p_x, p_y) = (
            (jacobian(y, x, i=i, j=0), jacobian(y, x, i=i, j=1)) for i in range(3)
        )
        laplace_u, laplace_v = (
            hessian(y, x, component=i, i=0, j=0) + hessian(y, x, component=i, i=1, j=1)
            for i in (0, 1)
        )
        return [
            u * u_x + v * u_y + p_x - laplace_u / 20,
            u * v_x + v * v_y + p_y - laplace_v / 20,
            u_x + v_y,
        ]

    conditions = [
        dde.icbc.DirichletBC(SQUARE, lambda x: 1 - np.exp(-x[:, :1]), boundary, component=0),
        dde.icbc.DirichletBC(SQUARE, zero, boundary, component=1),
        dde.icbc.DirichletBC(SQUARE, zero, lambda x, on: on and np.isclose(x[0], 1), component=2),
    ]
    return trained(dde.data.PDE(SQUARE, pde, conditions, 14, 12), fnn(2, 6, 6, 3))


MODELS = (
    *(burgers, burgers_conservative, allen_cahn, heat, heat_in_the_plane, wave),
    *(diffusion_reaction, schroedinger, klein_gordon, korteweg_de_vries, kovasznay),
)
