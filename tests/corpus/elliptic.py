"""Equations of space alone: Poisson, Laplace, Helmholtz on several domains."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .common import SQUARE, UNIT, boundary, dde, fnn, hessian, jacobian, left, right, trained, zero


def laplacian(y: Tensor, x: Tensor) -> Tensor:
    return sum(hessian(y, x, i=d, j=d) for d in range(x.shape[1]))


def sources(x: Tensor, y: Tensor) -> Tensor:
    return -hessian(y, x) - np.pi**2 * torch.sin(np.pi * x)


def poisson(x: Tensor, y: Tensor) -> Tensor:
    return -laplacian(y, x) - 1


def poisson_dirichlet() -> Any:
    conditions = dde.icbc.DirichletBC(UNIT, lambda x: np.sin(np.pi * x), boundary)
    data = dde.data.PDE(UNIT, sources, conditions, 12, 2, solution=lambda x: np.sin(np.pi * x))
    return trained(data, fnn(1, 6, 6, 1), metrics=["l2 relative error"])


def poisson_neumann() -> Any:
    conditions = [
        dde.icbc.DirichletBC(UNIT, zero, left),
        dde.icbc.NeumannBC(UNIT, lambda X: 2 * X + 1, right),
    ]
    return trained(dde.data.PDE(UNIT, sources, conditions, 12, 2, num_test=20), fnn(1, 6, 6, 1))


def poisson_robin() -> Any:
    conditions = [
        dde.icbc.DirichletBC(UNIT, zero, left),
        dde.icbc.RobinBC(UNIT, lambda X, y: y - 0.3 * y**3, right),
    ]
    return trained(dde.data.PDE(UNIT, sources, conditions, 12, 2), fnn(1, 6, 6, 1))


def poisson_periodic() -> Any:
    conditions = [
        dde.icbc.DirichletBC(UNIT, zero, left),
        dde.icbc.PeriodicBC(UNIT, 0, right),
    ]
    return trained(
        dde.data.PDE(UNIT, sources, conditions, 12, 2), fnn(1, 6, 6, 1, activation="sin")
    )


def poisson_l_shape() -> Any:
    corners = [[0, 0], [1, 0], [1, -1], [-1, -1], [-1, 1], [0, 1]]
    domain = dde.geometry.Polygon(corners)
    data = dde.data.PDE(domain, poisson, dde.icbc.DirichletBC(domain, zero, boundary), 20, 14)
    return trained(data, fnn(2, 6, 6, 1))


def poisson_hole() -> Any:
    """Hard sphere out of a square, Neumann on the hole."""
    domain = dde.geometry.CSGDifference(SQUARE, dde.geometry.Disk([0.5, 0.5], 0.2))

    def outer(x: np.ndarray, on: bool) -> bool:
        return bool(on and SQUARE.on_boundary(x))

    def inner(x: np.ndarray, on: bool) -> bool:
        return bool(on and not SQUARE.on_boundary(x))

    conditions = [
        dde.icbc.DirichletBC(domain, zero, outer),
        dde.icbc.NeumannBC(domain, lambda x: x[:, :1] ** 2, inner),
    ]
    data = dde.data.PDE(domain, poisson, conditions, 16, 20, train_distribution="pseudo")
    return trained(data, fnn(2, 6, 6, 1))


def poisson_ellipse() -> Any:
    """A shape for which DeepXDE has no normals, and none are needed."""
    domain = dde.geometry.Ellipse([0, 0], 1, 0.5)
    data = dde.data.PDE(domain, poisson, dde.icbc.DirichletBC(domain, zero, boundary), 16, 8)
    return trained(data, fnn(2, 6, 6, 1))


def poisson_cuboid() -> Any:
    domain = dde.geometry.Cuboid([0, 0, 0], [1, 2, 1])
    conditions = dde.icbc.DirichletBC(domain, lambda x: x[:, 2:] * x[:, :1], boundary)
    data = dde.data.PDE(domain, poisson, conditions, 16, 20)
    return trained(data, fnn(3, 5, 5, 1, activation="swish"), loss_weights=[1, 10])


def poisson_multiscale() -> Any:
    """Features of several frequencies; more parameters than residuals, gradients up to 1e4."""

    def pde(x: Tensor, y: Tensor) -> Tensor:
        return hessian(y, x) + 50**2 * 0.1 * torch.sin(50 * x) + 4 * torch.sin(2 * x)

    net = fnn(6, 8, 8, 1)
    net.apply_feature_transform(
        lambda x: torch.cat([f(k * x) for k in (1, 10, 50) for f in (torch.sin, torch.cos)], 1)
    )
    condition = dde.icbc.DirichletBC(UNIT, zero, boundary)
    return trained(dde.data.PDE(UNIT, pde, condition, 30, 2), net)


def poisson_many_parameters() -> Any:
    """More parameters than residuals, and several scales."""

    def pde(x: Tensor, y: Tensor) -> Tensor:
        return hessian(y, x) + (50**2) * 0.1 * torch.sin(50 * x) + 4 * torch.sin(2 * x)

    conditions = dde.icbc.DirichletBC(UNIT, zero, boundary)
    return trained(dde.data.PDE(UNIT, pde, conditions, 10, 2), fnn(1, 10, 9, 1))


def helmholtz_hard_condition() -> Any:
    def pde(x: Tensor, y: Tensor) -> Tensor:
        source = 16 * torch.sin(4 * x[:, :1]) * torch.sin(4 * x[:, 1:])
        return -laplacian(y, x) - 16 * y - source

    net = fnn(2, 6, 6, 1, activation="sin")
    net.apply_output_transform(
        lambda x, y: x[:, :1] * (1 - x[:, :1]) * x[:, 1:2] * (1 - x[:, 1:2]) * y
    )
    return trained(dde.data.PDE(SQUARE, pde, [], 20, 8), net)


def helmholtz_sound() -> Any:
    """Real and imaginary part, impedance on the boundary by Robin conditions."""

    def pde(x: Tensor, y: Tensor) -> list[Tensor]:
        parts = [
            sum(hessian(y, x, component=c, i=d, j=d) for d in (0, 1)) + 4 * y[:, c : c + 1]
            for c in (0, 1)
        ]
        return parts

    conditions = [
        dde.icbc.RobinBC(SQUARE, lambda X, y: -2 * y[:, 1:2], boundary, component=0),
        dde.icbc.RobinBC(SQUARE, lambda X, y: 2 * y[:, 0:1] + 1, boundary, component=1),
    ]
    data = dde.data.PDE(SQUARE, pde, conditions, 16, 12)
    return trained(data, fnn(2, 6, 6, 2), loss_weights=[1, 1, 50, 50])


def laplace_disk() -> Any:
    """Polar coordinates; the features make the network periodic in the angle."""
    domain = dde.geometry.Rectangle([0, 0], [1, 2 * np.pi])

    def pde(x: Tensor, y: Tensor) -> Tensor:
        r = x[:, :1]
        y_r, y_rr = jacobian(y, x, i=0, j=0), hessian(y, x, i=0, j=0)
        return r * y_r + r**2 * y_rr + hessian(y, x, i=1, j=1)

    condition = dde.icbc.DirichletBC(domain, lambda x: np.cos(x[:, 1:2]), right)
    net = fnn(2, 6, 6, 1)
    net.apply_feature_transform(
        lambda x: torch.cat([x[:, :1] * torch.sin(x[:, 1:]), x[:, :1] * torch.cos(x[:, 1:])], 1)
    )
    return trained(dde.data.PDE(domain, pde, condition, 20, 20), net)


def eigenvalue() -> Any:
    """An eigenvalue of the Laplace operator is an unknown; the slope is prescribed."""
    value = dde.Variable(9.0)

    def pde(x: Tensor, y: Tensor) -> Tensor:
        return hessian(y, x) + value * y

    conditions = [
        dde.icbc.DirichletBC(UNIT, zero, boundary),
        dde.icbc.NeumannBC(UNIT, lambda x: -1, left),
    ]
    data = dde.data.PDE(UNIT, pde, conditions, 12, 2)
    return trained(data, fnn(1, 6, 6, 1), external_trainable_variables=[value])


MODELS = (
    *(poisson_dirichlet, poisson_neumann, poisson_robin, poisson_periodic, poisson_l_shape),
    *(poisson_hole, poisson_ellipse, poisson_cuboid, poisson_many_parameters, poisson_multiscale),
    *(helmholtz_hard_condition, helmholtz_sound, laplace_disk, eigenvalue),
)
