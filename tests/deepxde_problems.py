"""Problems in the style of DeepXDE's own examples, trained for a few steps, by name."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pinnfluence.models.deepxde.model import dde

jacobian, hessian = dde.grad.jacobian, dde.grad.hessian
INTERVAL = dde.geometry.Interval(-1, 1)
EVERYWHERE = lambda x, on_boundary: on_boundary  # noqa: E731


def left(x: np.ndarray, on_boundary: bool) -> bool:
    return bool(on_boundary and dde.utils.isclose(x[0], -1))


def right(x: np.ndarray, on_boundary: bool) -> bool:
    return bool(on_boundary and dde.utils.isclose(x[0], 1))


def trained(data: Any, net: nn.Module, n_steps: int = 5, **settings: Any) -> Any:
    model = dde.Model(data, net)
    with contextlib.redirect_stdout(io.StringIO()):
        model.compile("adam", lr=1e-3, verbose=0, **settings)
        model.train(iterations=n_steps, display_every=10**6, verbose=0)
    return model


def fnn(*layers: int, activation: str = "tanh") -> Any:
    return dde.nn.FNN(list(layers), activation, "Glorot uniform")


def poisson(x: Tensor, y: Tensor) -> Tensor:
    return hessian(y, x) - 2 * torch.cos(x)


def square(x: np.ndarray) -> np.ndarray:
    return (x[:, 0:1] + 1) ** 2


def on_interval(conditions: list[Any], pde: Any = poisson, net: Any = None, **settings: Any) -> Any:
    data = dde.data.PDE(INTERVAL, pde, conditions, num_domain=9, num_boundary=2)
    return trained(data, net or fnn(1, 4, 4, 1), **settings)


def dirichlet() -> Any:
    return on_interval([dde.icbc.DirichletBC(INTERVAL, square, EVERYWHERE)], loss_weights=[1, 7])


def neumann() -> Any:
    conditions = [
        dde.icbc.DirichletBC(INTERVAL, lambda x: 0, left),
        dde.icbc.NeumannBC(INTERVAL, lambda x: 2 * (x + 1), right),
    ]
    return on_interval(conditions, net=fnn(1, 4, 4, 1, activation="sin"))


def robin() -> Any:
    conditions = [
        dde.icbc.DirichletBC(INTERVAL, square, left),
        dde.icbc.RobinBC(INTERVAL, lambda X, y: y, right),
        dde.icbc.RobinBC(INTERVAL, lambda X, y: y**2 * torch.as_tensor(np.cos(X)), EVERYWHERE),
    ]
    return on_interval(conditions)


def periodic() -> Any:
    """A wave in time, periodic in its value and slope; both ends choose points."""
    domain = dde.geometry.GeometryXTime(INTERVAL, dde.geometry.TimeDomain(0, 1))

    def pde(x: Tensor, y: Tensor) -> Tensor:
        return jacobian(y, x, i=0, j=1) + 0.5 * jacobian(y, x, i=0, j=0)

    conditions = [
        dde.icbc.PeriodicBC(domain, 0, left),
        dde.icbc.PeriodicBC(domain, 0, EVERYWHERE, derivative_order=1),
    ]
    data = dde.data.TimePDE(domain, pde, conditions, num_domain=10, num_boundary=8)
    return trained(data, fnn(2, 4, 4, 1, activation="swish"), loss_weights=[1, 2, 3])


def operator() -> Any:
    conditions = [
        dde.icbc.DirichletBC(INTERVAL, square, left),
        dde.icbc.OperatorBC(INTERVAL, lambda x, y, X: jacobian(y, x) - 4 * y * x, right),
        dde.icbc.OperatorBC(
            INTERVAL, lambda x, y, X: hessian(y, x) - torch.as_tensor(np.sin(X)), EVERYWHERE
        ),
    ]
    return on_interval(conditions, net=fnn(1, 4, 4, 1, activation="sigmoid"))


SQUARE = dde.geometry.Rectangle([-1, -1], [1, 1])


def flow(x: Tensor, y: Tensor) -> list[Tensor]:
    u, v = y[:, 0:1], y[:, 1:2]
    u_x, u_y = jacobian(y, x, i=0, j=0), jacobian(u, x, j=1)
    laplace = hessian(y, x, component=1, i=0, j=0) + hessian(v, x, i=1, j=1)
    row = jacobian(y, x, i=1)
    return [u_x + row[:, 1:2], u * u_x + v * u_y - 0.1 * laplace + hessian(v, x, i=0, j=1)]


def pointset() -> Any:
    """Measurements, two of which are at one place and one at a training point."""
    points = np.array([[0.1, 0.2], [0.5, -0.5], [0.1, 0.2], [-1.0, -1.0]])
    values = np.array([[1.0], [0.0], [0.5], [0.3]])
    conditions = [
        dde.icbc.DirichletBC(SQUARE, lambda x: x[:, 1:2], left, component=1),
        dde.icbc.PointSetBC(points, values, component=1),
        dde.icbc.PointSetBC(points[:2], np.hstack([values[:2], values[2:]]), component=[0, 1]),
        dde.icbc.PointSetOperatorBC(
            points[1:], values[1:], lambda x, y, X: jacobian(y, x, i=0, j=1)
        ),
    ]
    data = dde.data.PDE(
        SQUARE, flow, conditions, 6, 12, anchors=np.array([[-1.0, -1.0]], np.float32)
    )
    return trained(data, fnn(2, 4, 4, 2, activation="gelu"), loss_weights=[1, 1, 2, 3, 4, 5])


def diffusion(x: Tensor, y: Tensor) -> Tensor:
    return jacobian(y, x, i=0, j=1) - hessian(y, x, i=0, j=0) + torch.exp(-x[:, 1:]) * y


def initial() -> Any:
    domain = dde.geometry.GeometryXTime(INTERVAL, dde.geometry.TimeDomain(0, 1))
    sine = lambda x: np.sin(np.pi * x[:, 0:1])  # noqa: E731
    conditions = [
        dde.icbc.DirichletBC(domain, lambda x: np.zeros((len(x), 1)), EVERYWHERE),
        dde.icbc.IC(domain, sine, lambda x, on_initial: on_initial),
    ]
    data = dde.data.TimePDE(domain, diffusion, conditions, 9, 6, num_initial=5)
    net = fnn(2, 4, 4, 1)
    net.apply_feature_transform(lambda x: x / x.new_tensor([1.0, 2.0]))
    return trained(data, net)


def output_transform() -> Any:
    """Hard conditions by a transform of the output, features that are sines."""
    domain = dde.geometry.GeometryXTime(INTERVAL, dde.geometry.TimeDomain(0, 1))
    sine = lambda x: torch.sin(np.pi * x[:, 0:1])  # noqa: E731
    data = dde.data.TimePDE(domain, diffusion, [], 12)
    net = fnn(3, 4, 4, 1)
    net.apply_feature_transform(lambda x: torch.cat([torch.sin(x[:, 0:1]), x], 1))
    net.apply_output_transform(lambda x, y: x[:, 1:2] * (1 - x[:, 0:1] ** 2) * y + sine(x))
    return trained(data, net)


def beam() -> Any:
    """The Euler beam: fourth order, by a Hessian of a Hessian."""
    domain = dde.geometry.Interval(0, 1)

    def pde(x: Tensor, y: Tensor) -> Tensor:
        return hessian(hessian(y, x), x) + 1

    def second(x: Tensor, y: Tensor, X: Any) -> Tensor:
        return hessian(y, x)

    def third(x: Tensor, y: Tensor, X: Any) -> Tensor:
        return jacobian(hessian(y, x), x)

    at_0 = lambda x, on: on and dde.utils.isclose(x[0], 0)  # noqa: E731
    at_1 = lambda x, on: on and dde.utils.isclose(x[0], 1)  # noqa: E731
    conditions = [
        dde.icbc.DirichletBC(domain, lambda x: 0, at_0),
        dde.icbc.NeumannBC(domain, lambda x: 0, at_0),
        dde.icbc.OperatorBC(domain, second, at_1),
        dde.icbc.OperatorBC(domain, third, at_1),
    ]
    data = dde.data.PDE(domain, pde, conditions, num_domain=9, num_boundary=2)
    return trained(data, fnn(1, 4, 4, 1))


def lorenz() -> Any:
    """An inverse problem: three outputs, two unknowns of which one is in a condition too."""
    unknowns = [dde.Variable(1.5), dde.Variable(0.7)]
    domain = dde.geometry.TimeDomain(0, 1)

    def pde(x: Tensor, y: Tensor) -> list[Tensor]:
        a, b, c = y[:, 0:1], y[:, 1:2], y[:, 2:]
        return [
            jacobian(y, x, i=0) - unknowns[0] * (b - a),
            jacobian(y, x, i=1) - a * (15 - c) + b,
            jacobian(y, x, i=2) - a * b + unknowns[1] * c,
        ]

    times = np.linspace(0, 1, 4)[:, None]
    conditions = [
        dde.icbc.IC(domain, lambda x: -8, lambda x, on: on, component=0),
        dde.icbc.PointSetBC(times, np.cos(times), component=1),
        dde.icbc.OperatorBC(domain, lambda x, y, X: y[:, :1] * unknowns[1], EVERYWHERE),
    ]
    data = dde.data.PDE(domain, pde, conditions, 8, 2)
    return trained(data, fnn(1, 4, 4, 3), external_trainable_variables=unknowns)


def conservative() -> Any:
    """Derivatives of expressions, of derivatives of expressions, and of points."""

    def pde(x: Tensor, y: Tensor) -> list[Tensor]:
        u, v = torch.split(y, 1, dim=1)
        flux = jacobian(u * u, x, j=0) + jacobian(u * v, x, j=1)
        curl = jacobian(v, x, j=0) - jacobian(u, x, j=1)
        energy = torch.cat([u**2 + v**2, x[:, :1] * u], 1)
        return [
            flux - 0.1 * jacobian(curl, x, j=1),
            hessian(energy, x, component=1, i=0, j=1) + jacobian(flux * curl, x, j=1),
            jacobian(torch.sin(x[:, 1:2]), x, j=1) * u + jacobian(-v, x, i=0)[:, :1],
        ]

    conditions = [
        dde.icbc.OperatorBC(SQUARE, lambda x, y, X: jacobian(y[:, :1] * x[:, 1:], x, j=0), left),
        dde.icbc.DirichletBC(SQUARE, lambda x: 1, right, component=0),
    ]
    data = dde.data.PDE(SQUARE, pde, conditions, 6, 12)
    return trained(data, fnn(2, 4, 4, 2))


class Residual(nn.Module):
    """A user's own module: a skip connection, and a tensor that is no parameter."""

    regularizer = None

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 4), nn.Linear(4, 4)
        self.last, self.frequency = nn.Linear(4, 1), torch.tensor([[0.5], [1.3]])

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(x))
        return self.last(hidden + torch.sin(self.second(hidden))) + torch.sin(x @ self.frequency)


def own_module() -> Any:
    """A user's module; an unknown that its equation and a periodic condition use."""
    unknown = dde.Variable(0.3)
    domain = dde.geometry.GeometryXTime(INTERVAL, dde.geometry.TimeDomain(0, 1))

    def pde(x: Tensor, y: Tensor) -> Tensor:
        return jacobian(y, x, i=0, j=1) - unknown * hessian(y, x, i=0, j=0)

    conditions = [
        dde.icbc.PeriodicBC(domain, 0, EVERYWHERE, derivative_order=1),
        dde.icbc.OperatorBC(
            domain, lambda x, y, X: y - torch.as_tensor(np.sin(X[:, :1])) * unknown, left
        ),
    ]
    data = dde.data.TimePDE(domain, pde, conditions, 8, 8)
    return trained(data, Residual(), external_trainable_variables=unknown)


def inverse_transform() -> Any:
    """An unknown that the transform of the output uses, and one of two numbers."""
    unknowns = [dde.Variable(0.4), dde.Variable([0.2, -0.3])]
    net = fnn(1, 4, 4, 1)
    net.apply_output_transform(lambda x, y: y * x + unknowns[0] * torch.cos(x))

    def pde(x: Tensor, y: Tensor) -> Tensor:
        return hessian(y, x) - unknowns[1][0] * y - unknowns[1][1:] * x

    condition = dde.icbc.DirichletBC(INTERVAL, square, EVERYWHERE)
    return on_interval([condition], pde, net, external_trainable_variables=unknowns)


def parallel() -> Any:
    """A sub-network for each output."""
    data = dde.data.PDE(
        SQUARE, flow, [dde.icbc.DirichletBC(SQUARE, lambda x: 1, left, component=0)], 6, 12
    )
    return trained(data, dde.nn.PFNN([2, [3, 3], 2], "tanh", "Glorot uniform"))


MODELS: dict[str, Callable[[], Any]] = {
    make.__name__: make
    for make in (
        *(dirichlet, neumann, robin, periodic, operator, pointset, initial, output_transform),
        *(beam, lorenz, conservative, own_module, inverse_transform, parallel),
    )
}


@functools.cache
def model_of(name: str) -> Any:
    """The trained model of a problem; made once."""
    dde.config.set_random_seed(3)
    return MODELS[name]()
