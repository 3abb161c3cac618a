"""Inverse problems: unknowns in equations, in targets, in transforms; measurements."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .common import (
    SQUARE,
    UNIT,
    UNIT_TIME,
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

MEASURED = np.linspace(0.1, 0.9, 5)[:, None]


def second(x: Tensor, y: Tensor) -> Tensor:
    return hessian(y, x) - torch.sin(3 * x)


def on_unit(conditions: list[Any], unknowns: Any, pde: Any = second, net: Any = None) -> Any:
    data = dde.data.PDE(UNIT, pde, conditions, 12, 2)
    return trained(data, net or fnn(1, 6, 6, 1), external_trainable_variables=unknowns)


def lorenz() -> Any:
    unknowns = [dde.Variable(8.0), dde.Variable(20.0), dde.Variable(2.0)]
    domain = dde.geometry.TimeDomain(0, 1)

    def system(t: Tensor, y: Tensor) -> list[Tensor]:
        a, b, c = y[:, 0:1], y[:, 1:2], y[:, 2:]
        return [
            jacobian(y, t, i=0) - unknowns[0] * (b - a),
            jacobian(y, t, i=1) - a * (unknowns[1] - c) + b,
            jacobian(y, t, i=2) - a * b + unknowns[2] * c,
        ]

    times = np.linspace(0, 1, 6)[:, None]
    start = [dde.icbc.IC(domain, lambda x: -2, initially, component=n) for n in range(3)]
    seen = [dde.icbc.PointSetBC(times, np.cos(n + times), component=n) for n in range(3)]
    data = dde.data.PDE(domain, system, [*start, *seen], 12, 2, anchors=times)
    return trained(data, fnn(1, 6, 6, 3), external_trainable_variables=unknowns)


def navier_stokes() -> Any:
    """Two unknowns of an unsteady plane flow, velocities measured at points of space and time."""
    unknowns = [dde.Variable(0.5), dde.Variable(0.1)]
    domain = dde.geometry.GeometryXTime(SQUARE, dde.geometry.TimeDomain(0, 1))

    def flow(x: Tensor, y: Tensor) -> list[Tensor]:
        u, v = y[:, 0:1], y[:, 1:2]
        first = [[jacobian(y, x, i=i, j=j) for j in range(3)] for i in range(3)]
        laplace = [sum(hessian(y, x, component=i, i=d, j=d) for d in (0, 1)) for i in (0, 1)]
        moments = [
            first[i][2]
            + unknowns[0] * (u * first[i][0] + v * first[i][1])
            + first[2][i]
            - unknowns[1] * laplace[i]
            for i in (0, 1)
        ]
        return [first[0][0] + first[1][1], *moments]

    rng = np.random.default_rng(0)
    points = rng.random((7, 3))
    conditions = [
        dde.icbc.PointSetBC(points, np.cos(points[:, :1]), component=0),
        dde.icbc.PointSetBC(points, np.sin(points[:, 1:2]), component=1),
        dde.icbc.PointSetBC(points, points[:, :2], component=[0, 2]),
        dde.icbc.DirichletBC(domain, zero, boundary, component=2),
    ]
    data = dde.data.TimePDE(domain, flow, conditions, 12, 6, 4, anchors=points)
    return trained(data, fnn(3, 5, 5, 3), external_trainable_variables=unknowns)


def diffusion() -> Any:
    unknown = dde.Variable(2.0)

    def pde(x: Tensor, y: Tensor) -> Tensor:
        return jacobian(y, x, i=0, j=1) - unknown * hessian(y, x, i=0, j=0)

    points = np.random.default_rng(1).random((6, 2))
    conditions = [
        dde.icbc.DirichletBC(UNIT_TIME, zero, boundary),
        dde.icbc.IC(UNIT_TIME, lambda x: np.sin(np.pi * x[:, :1]), initially),
        dde.icbc.PointSetBC(points, np.exp(-points[:, 1:]) * points[:, :1]),
    ]
    data = dde.data.TimePDE(UNIT_TIME, pde, conditions, 14, 8, 6, anchors=points)
    return trained(data, fnn(2, 6, 6, 1), external_trainable_variables=unknown)


def unknown_field() -> Any:
    """A second output is the unknown conductivity; flux measured by ``PointSetOperatorBC``."""

    def pde(x: Tensor, y: Tensor) -> Tensor:
        u_x, k_x = jacobian(y, x, i=0), jacobian(y, x, i=1)
        return k_x * u_x + y[:, 1:2] * hessian(y, x, component=0) + 1

    conditions = [
        dde.icbc.DirichletBC(UNIT, zero, boundary, component=0),
        dde.icbc.PointSetBC(MEASURED, MEASURED * (1 - MEASURED)),
        dde.icbc.PointSetOperatorBC(
            MEASURED[::2], MEASURED[::2] ** 2, lambda x, y, X: y[:, 1:2] * jacobian(y, x, i=0)
        ),
    ]
    return on_unit(conditions, None, pde, fnn(1, 6, 6, 2))


def unknown_flux() -> Any:
    """An unknown is the target of a Neumann condition."""
    flux = dde.Variable(0.7)
    conditions = [
        dde.icbc.DirichletBC(UNIT, zero, left),
        dde.icbc.NeumannBC(UNIT, lambda x: flux, right),
        dde.icbc.PointSetBC(MEASURED, np.sin(MEASURED)),
    ]
    return on_unit(conditions, flux)


def unknown_boundary_value() -> Any:
    """An unknown is the target of a Dirichlet condition; another does nothing else."""
    unknowns = [dde.Variable(0.7), dde.Variable(0.2)]
    conditions = [
        dde.icbc.DirichletBC(UNIT, lambda x: unknowns[0], left),
        dde.icbc.DirichletBC(UNIT, lambda x: unknowns[1], right),
        dde.icbc.PointSetBC(MEASURED, np.sin(MEASURED)),
    ]
    return on_unit(conditions, unknowns)


def unknown_transfer() -> Any:
    """An unknown in the function of a Robin condition."""
    transfer = dde.Variable(1.3)
    conditions = [
        dde.icbc.DirichletBC(UNIT, lambda x: 1, left),
        dde.icbc.RobinBC(UNIT, lambda X, y: transfer * (y - 0.2), right),
        dde.icbc.PointSetBC(MEASURED, np.sin(MEASURED)),
    ]
    return on_unit(conditions, transfer)


def unknown_offset() -> Any:
    """The values of a ``PointSetBC`` are an unknown: a sensor with an offset."""
    offset = dde.Variable(0.3)
    conditions = [
        dde.icbc.DirichletBC(UNIT, zero, boundary),
        dde.icbc.PointSetBC(MEASURED, offset),
    ]
    return on_unit(conditions, offset)


class Material:
    """An unknown in a callable object."""

    def __init__(self) -> None:
        self.stiffness = dde.Variable(1.7)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return self.stiffness * hessian(y, x) - torch.sin(3 * x)


def unknown_in_an_object() -> Any:
    material = Material()
    conditions = [
        dde.icbc.DirichletBC(UNIT, zero, boundary),
        dde.icbc.PointSetBC(MEASURED, np.sin(MEASURED)),
    ]

    def pde(x: Tensor, y: Tensor) -> Tensor:
        return material(x, y)

    return on_unit(conditions, material.stiffness, pde)


def unknown_vector() -> Any:
    """An unknown of several numbers, and one in the transform of the output."""
    factors, height = dde.Variable([0.5, -0.2]), dde.Variable(0.4)
    net = fnn(1, 6, 6, 1)
    net.apply_output_transform(lambda x, y: x * (1 - x) * y + height * x)

    def pde(x: Tensor, y: Tensor) -> Tensor:
        return hessian(y, x) + factors[0] * y + factors[1] * torch.cos(x)

    return on_unit([dde.icbc.PointSetBC(MEASURED, MEASURED)], [factors, height], pde, net)


def unknown_exponent() -> Any:
    """The unknown is kept positive by its exponential."""
    logarithm = dde.Variable(-0.5)

    def pde(x: Tensor, y: Tensor) -> Tensor:
        return torch.exp(logarithm) * hessian(y, x) + y**2

    conditions = [
        dde.icbc.DirichletBC(UNIT, lambda x: 1, left),
        dde.icbc.OperatorBC(UNIT, lambda x, y, X: torch.exp(logarithm) * jacobian(y, x) - y, right),
    ]
    return on_unit(conditions, [logarithm], pde)


MODELS = (
    *(lorenz, navier_stokes, diffusion, unknown_field, unknown_flux, unknown_boundary_value),
    *(unknown_transfer, unknown_offset, unknown_in_an_object, unknown_vector, unknown_exponent),
)
