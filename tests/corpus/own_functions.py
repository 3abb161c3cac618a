"""Users' own ways to write equations and conditions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .common import (
    SQUARE,
    UNIT,
    boundary,
    dde,
    fnn,
    hessian,
    jacobian,
    left,
    right,
    trained,
    zero,
)

MEASURED = np.linspace(0.1, 0.9, 5)[:, None]


def curved(x: Tensor, y: Tensor) -> Tensor:
    return hessian(y, x) - torch.sin(3 * x)


def on_unit(conditions: list[Any], pde: Any = curved, net: Any = None, **settings: Any) -> Any:
    data = dde.data.PDE(UNIT, pde, conditions, 12, 2)
    return trained(data, net or fnn(1, 6, 6, 1), **settings)


def fixed_ends() -> Any:
    return dde.icbc.DirichletBC(UNIT, zero, boundary)


def autograd_equation() -> Any:
    """Derivatives by ``torch.autograd.grad`` itself."""

    def pde(x: Tensor, y: Tensor) -> Tensor:
        (y_x,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        (y_xx,) = torch.autograd.grad(y_x.sum(), x, create_graph=True)
        return y_xx + y * y_x - 1

    return on_unit([fixed_ends()], pde)


def autograd_condition() -> Any:
    def slope(x: Tensor, y: Tensor, X: Any) -> Tensor:
        (y_x,) = torch.autograd.grad(y, x, torch.ones_like(y), create_graph=True)
        return y_x - 1

    return on_unit(
        [dde.icbc.DirichletBC(UNIT, zero, left), dde.icbc.OperatorBC(UNIT, slope, right)]
    )


def expressions() -> Any:
    """Derivatives of expressions of derivatives, in two directions."""

    def pde(x: Tensor, y: Tensor) -> list[Tensor]:
        u, v = y[:, 0:1], y[:, 1:2]
        stress = 0.1 * (jacobian(y, x, i=0, j=1) + jacobian(y, x, i=1, j=0))
        flux = torch.cat([u * u - stress, u * v], 1)
        return [
            jacobian(flux, x, i=0, j=0) + jacobian(flux, x, i=1, j=1),
            jacobian(torch.exp(u) * v, x, i=0, j=0) + hessian(u * v, x, i=0, j=1),
        ]

    conditions = [
        dde.icbc.DirichletBC(SQUARE, lambda x: x[:, :1], boundary, component=0),
        dde.icbc.OperatorBC(SQUARE, lambda x, y, X: jacobian(y[:, :1] ** 2, x, i=0, j=1), left),
    ]
    return trained(dde.data.PDE(SQUARE, pde, conditions, 12, 12), fnn(2, 6, 6, 2))


def auxiliary_variables() -> Any:
    """A coefficient that is computed once at the training points."""

    def pde(x: Tensor, y: Tensor, coefficient: Tensor) -> Tensor:
        return hessian(y, x) * coefficient - 1

    data = dde.data.PDE(UNIT, pde, fixed_ends(), 12, 2, auxiliary_var_function=lambda x: 1 + x**2)
    return trained(data, fnn(1, 6, 6, 1))


class PressureBC(dde.icbc.BC):
    """A user's own condition: a combination of the value and the slope."""

    def error(self, X: Any, inputs: Any, outputs: Any, beg: int, end: int, aux: Any = None) -> Any:
        slope = self.normal_derivative(X, inputs, outputs, beg, end)
        return outputs[beg:end, 0:1] + 0.3 * slope - 0.1


class ScaledPointSetBC(dde.icbc.PointSetBC):
    """Measurements, each with its own standard deviation."""

    def __init__(self, points: Any, values: Any, deviations: np.ndarray) -> None:
        super().__init__(points, values)
        self.deviations = torch.as_tensor(deviations)

    def error(self, X: Any, inputs: Any, outputs: Any, beg: int, end: int, aux: Any = None) -> Any:
        difference = super().error(X, inputs, outputs, beg, end, aux)
        return difference / self.deviations.to(difference)


def own_condition() -> Any:
    return on_unit([dde.icbc.DirichletBC(UNIT, zero, left), PressureBC(UNIT, right, 0)])


def own_measurements() -> Any:
    deviations = 0.1 + MEASURED
    return on_unit([fixed_ends(), ScaledPointSetBC(MEASURED, np.sin(MEASURED), deviations)])


def measured_operator() -> Any:
    """Slopes measured at points, two of which are at one place."""
    points = np.vstack([MEASURED, MEASURED[:1]])
    condition = dde.icbc.PointSetOperatorBC(points, points**2, lambda x, y, X: jacobian(y, x))
    return on_unit([fixed_ends(), condition])


def measured_components() -> Any:
    """Several outputs measured at once, with weights of the loss."""
    points = np.random.default_rng(2).random((5, 2))
    values = np.hstack([np.cos(points[:, :1]), np.sin(points[:, 1:])])

    def pde(x: Tensor, y: Tensor) -> Tensor:
        return jacobian(y, x, i=0, j=0) + jacobian(y, x, i=1, j=1) + y[:, 2:]

    conditions = [
        dde.icbc.PointSetBC(points, values, component=[2, 0]),
        dde.icbc.DirichletBC(SQUARE, zero, boundary, component=1),
    ]
    data = dde.data.PDE(SQUARE, pde, conditions, 12, 10, anchors=points)
    return trained(data, fnn(2, 6, 6, 3), loss_weights=[1, 20, 3])


def several_columns() -> Any:
    """The equation gives one tensor of two columns."""

    def pde(x: Tensor, y: Tensor) -> Tensor:
        slopes = jacobian(y, x, i=0)
        return slopes * x - y

    condition = dde.icbc.DirichletBC(SQUARE, lambda x: 1, boundary)
    return trained(dde.data.PDE(SQUARE, pde, condition, 12, 10), fnn(2, 6, 6, 1))


def conditions_alone() -> Any:
    """No equation at all."""
    conditions = [
        dde.icbc.DirichletBC(UNIT, zero, boundary),
        dde.icbc.PointSetBC(MEASURED, np.sin(MEASURED)),
    ]
    return on_unit(conditions, None)


def point_weights() -> Any:
    """Weights of the points, inside the equation."""
    weights = torch.as_tensor(np.linspace(0.5, 2, 16)[:, None])

    def pde(x: Tensor, y: Tensor) -> Tensor:
        return weights[: len(x)].to(x) * curved(x, y)

    return on_unit([fixed_ends()], pde)


def coordinates_of_a_condition() -> Any:
    """An operator that uses the points as an array, and one that compares with a table."""
    conditions = [
        dde.icbc.OperatorBC(
            UNIT, lambda x, y, X: jacobian(y, x) - torch.as_tensor(np.cos(X)).to(y), boundary
        ),
        dde.icbc.DirichletBC(UNIT, lambda x: np.interp(x, [0, 1], [0, 0.2]), boundary),
    ]
    return on_unit(conditions)


def stream_function() -> Any:
    """Velocities are derivatives of a stream function, in a transform of the output."""
    net = fnn(2, 6, 6, 2)

    def velocities(x: Tensor, y: Tensor) -> Tensor:
        psi_x, psi_y = jacobian(y, x, i=0, j=0), jacobian(y, x, i=0, j=1)
        return torch.cat([psi_y, -psi_x, y[:, 1:2]], 1)

    net.apply_output_transform(velocities)

    def pde(x: Tensor, y: Tensor) -> Tensor:
        u, v = y[:, 0:1], y[:, 1:2]
        convection = u * jacobian(y, x, i=0, j=0) + v * jacobian(y, x, i=0, j=1)
        return convection + jacobian(y, x, i=2, j=0)

    conditions = [
        dde.icbc.DirichletBC(SQUARE, lambda x: x[:, 1:], left, component=0),
        dde.icbc.DirichletBC(SQUARE, zero, boundary, component=1),
    ]
    return trained(dde.data.PDE(SQUARE, pde, conditions, 12, 10), net)


def stream_function_by_autograd() -> Any:
    """The same by ``torch.autograd.grad``, in a module."""

    class Stream(torch.nn.Module):
        regularizer = None

        def __init__(self) -> None:
            super().__init__()
            self.psi = torch.nn.Sequential(
                torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)
            )

        def forward(self, x: Tensor) -> Tensor:
            with torch.enable_grad():
                x = x if x.requires_grad else x.requires_grad_()
                (slopes,) = torch.autograd.grad(self.psi(x).sum(), x, create_graph=True)
            return torch.cat([slopes[:, 1:], -slopes[:, :1]], 1)

    def pde(x: Tensor, y: Tensor) -> Tensor:
        return jacobian(y, x, i=0, j=1) - jacobian(y, x, i=1, j=0) - 1

    conditions = dde.icbc.DirichletBC(SQUARE, zero, boundary, component=1)
    return trained(dde.data.PDE(SQUARE, pde, conditions, 12, 10), Stream())


def hyperelastic() -> Any:
    """Finite elasticity: first Piola-Kirchhoff stress with determinant and inverse."""

    def stress(x: Tensor, y: Tensor) -> Tensor:
        rows = [torch.cat([jacobian(y, x, i=i, j=j) for j in (0, 1)], 1) for i in (0, 1)]
        F = torch.stack(rows, 1) + torch.eye(2).to(x)
        J = torch.linalg.det(F)[:, None, None]
        inverse = torch.linalg.inv(F).mT
        return F - inverse + 0.5 * (J**2 - 1) * inverse

    def pde(x: Tensor, y: Tensor) -> list[Tensor]:
        P = stress(x, y)
        return [
            sum(jacobian(P[:, i, j : j + 1], x, i=0, j=j) for j in (0, 1)) + 0.1 * i for i in (0, 1)
        ]

    net = fnn(2, 6, 6, 2)
    net.apply_output_transform(lambda x, y: 0.3 * x[:, :1] * y)
    traction = dde.icbc.OperatorBC(SQUARE, lambda x, y, X: stress(x, y)[:, 0, :1] - 0.1, right)
    return trained(dde.data.PDE(SQUARE, pde, [traction], 10, 10), net)


def hyperelastic_energy() -> Any:
    """The stress is the derivative of an energy density with a determinant in it."""

    def pde(x: Tensor, y: Tensor) -> Tensor:
        rows = [torch.cat([jacobian(y, x, i=i, j=j) for j in (0, 1)], 1) for i in (0, 1)]
        F = torch.stack(rows, 1) + torch.eye(2).to(x)
        J = torch.linalg.det(F)[:, None]
        energy = 0.5 * (F.square().sum((1, 2))[:, None] - 2) - torch.log(J) + (J - 1) ** 2
        return energy - 0.1 * y[:, :1]

    net = fnn(2, 6, 6, 2)
    net.apply_output_transform(lambda x, y: 0.3 * x[:, :1] * y)
    condition = dde.icbc.DirichletBC(SQUARE, zero, boundary, component=1)
    return trained(dde.data.PDE(SQUARE, pde, condition, 12, 10), net)


def linear_elastic() -> Any:
    """Displacements and stresses as five outputs, a mixed form."""

    def pde(x: Tensor, y: Tensor) -> list[Tensor]:
        e_xx, e_yy = jacobian(y, x, i=0, j=0), jacobian(y, x, i=1, j=1)
        e_xy = 0.5 * (jacobian(y, x, i=0, j=1) + jacobian(y, x, i=1, j=0))
        return [
            2 * e_xx + e_yy - y[:, 2:3],
            2 * e_yy + e_xx - y[:, 3:4],
            2 * e_xy - y[:, 4:5],
            jacobian(y, x, i=2, j=0) + jacobian(y, x, i=4, j=1) - torch.sin(x[:, :1]),
            jacobian(y, x, i=4, j=0) + jacobian(y, x, i=3, j=1),
        ]

    conditions = [
        dde.icbc.DirichletBC(SQUARE, zero, left, component=0),
        dde.icbc.DirichletBC(SQUARE, zero, boundary, component=1),
        dde.icbc.DirichletBC(SQUARE, lambda x: 1, right, component=2),
    ]
    data = dde.data.PDE(SQUARE, pde, conditions, 10, 12)
    return trained(data, dde.nn.PFNN([2, [4] * 5, 5], "tanh", "Glorot uniform"))


def interface() -> Any:
    """Two edges of a rectangle are tied together."""

    def low(x: np.ndarray, on: bool) -> bool:
        return bool(on and np.isclose(x[0], 0) and 0 < x[1] < 1)

    def high(x: np.ndarray, on: bool) -> bool:
        return bool(on and np.isclose(x[0], 1) and 0 < x[1] < 1)

    def pde(x: Tensor, y: Tensor) -> Tensor:
        return jacobian(y, x, i=0, j=0) + jacobian(y, x, i=1, j=1)

    condition = dde.icbc.Interface2DBC(SQUARE, zero, low, high)
    data = dde.data.PDE(SQUARE, pde, condition, 16, 16, train_distribution="uniform")
    return trained(data, fnn(2, 6, 6, 2))


MODELS = (
    *(autograd_equation, autograd_condition, expressions, auxiliary_variables, own_condition),
    *(own_measurements, measured_operator, measured_components, several_columns),
    *(conditions_alone, point_weights, coordinates_of_a_condition, stream_function),
    *(stream_function_by_autograd, hyperelastic, hyperelastic_energy, linear_elastic, interface),
)
