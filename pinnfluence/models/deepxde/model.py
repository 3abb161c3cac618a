"""The only room that knows DeepXDE: geometry, data and model of a problem."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pinnfluence.errors import InputError, input_errors
from pinnfluence.field.field import Field, parse
from pinnfluence.field.network import MLP, MultiIndex
from pinnfluence.loss.pinn import Pinn
from pinnfluence.models.deepxde.drawing import Draw, drawing
from pinnfluence.problem import parts as problem_parts
from pinnfluence.problem.domain import Difference, Disk, Interval, Rectangle, SpaceTime
from pinnfluence.problem.equation import Equation, PointFunction
from pinnfluence.problem.problem import Problem
from pinnfluence.runtime.devices import tensor_like


def _import_deepxde() -> ModuleType:
    """DeepXDE with its PyTorch backend, without its banner and its choice of default device."""
    loaded = sys.modules.get("deepxde.backend")
    if loaded is not None and loaded.backend_name != "pytorch":
        raise ImportError(
            f"DeepXDE was imported with the backend {loaded.backend_name}, expected pytorch: "
            "import pinnfluence first, or set DDE_BACKEND=pytorch"
        )
    os.environ["DDE_BACKEND"] = "pytorch"
    device, dtype = torch.get_default_device(), torch.get_default_dtype()
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        import deepxde
    # None, where it says the same: a default device costs time in every call of PyTorch.
    torch.set_default_device(None if device.type == "cpu" else device)
    torch.set_default_dtype(dtype)
    return deepxde


dde = _import_deepxde()


def geometry(shape: Any) -> Any:
    """DeepXDE's geometry of a region."""
    if isinstance(shape, SpaceTime):
        time = dde.geometry.TimeDomain(shape.time.low, shape.time.high)
        return dde.geometry.GeometryXTime(geometry(shape.space), time)
    if isinstance(shape, Interval):
        return dde.geometry.Interval(shape.low, shape.high)
    if isinstance(shape, Rectangle):
        return dde.geometry.Rectangle(list(shape.low), list(shape.high))
    if isinstance(shape, Disk):
        return dde.geometry.Disk(list(shape.center), shape.radius)
    if isinstance(shape, Difference):
        return dde.geometry.CSGDifference(geometry(shape.whole), geometry(shape.hole))
    raise TypeError(f"no DeepXDE geometry for {type(shape).__name__}")


class GradField(Field):
    """A field whose derivatives are looked up with ``dde.grad``: the equations in plain DeepXDE."""

    def __getattr__(self, name: str) -> Tensor:
        if name in self._inputs or name.startswith("_") or name in ("data", "image"):
            return super().__getattr__(name)
        return self._column(*parse(name, self._inputs, self._outputs))

    def derivative(self, index: MultiIndex) -> Tensor:
        return torch.stack([self._column(n, index) for n in range(len(self._outputs))], 1)

    def _column(self, output: int, index: MultiIndex) -> Tensor:
        values = self._streams[()]
        assert values is not None
        if len(index) > 2:
            name = f"{self._outputs[output]}_{''.join(self._inputs[n] for n in index)}"
            raise NotImplementedError(f"{name}: derivatives above the second are not looked up")
        if not index:
            return self._select(values, output)
        if len(index) == 1:
            found = dde.grad.jacobian(values, self._x, i=output, j=index[0])
        else:
            found = dde.grad.hessian(values, self._x, component=output, i=index[0], j=index[1])
        return self._select(found, 0)


class EquationBC(dde.icbc.OperatorBC):  # type: ignore[name-defined]
    """A condition whose function is asked at its own points alone."""

    def error(
        self, X: np.ndarray, inputs: Tensor, outputs: Tensor, beg: int, end: int, aux: Any = None
    ) -> Tensor:
        """The residual ``[n, 1]``."""
        residual: Tensor = self.func(inputs, outputs, X, slice(beg, end))
        return residual


def operators(
    terms: Pinn, problem: Problem, network: Callable[[Tensor], Tensor]
) -> tuple[Callable[[Tensor, Tensor], list[Tensor]], list[Any]]:
    """The PDE as a function, and the conditions, in DeepXDE's conventions.

    ``network``: the outputs at other points, for equations with images.
    """
    names = (problem.inputs, problem.outputs)

    def residuals(
        equation: Equation, x: Tensor, y: Tensor, X: Any = None, rows: slice = slice(None)
    ) -> dict[str, Tensor]:
        field = GradField(*names, x, {(): y}, rows)
        if equation.data is not None:
            field.data = tensor_like(equation.data(X[rows]), x)
        if equation.image is not None:
            image = tensor_like(equation.image(X[rows]), x).requires_grad_()
            field.image = GradField(*names, image, {(): network(image)})
        return equation.residuals(field)

    def pde(x: Tensor, y: Tensor) -> list[Tensor]:
        return [r[:, None] for r in residuals(terms.equations[0], x, y).values()]

    domain, conditions = geometry(problem.domain), []
    starts = problem.domain.at_start if isinstance(problem.domain, SpaceTime) else None
    for equation, own in zip(terms.equations[1:], terms.names[1:], strict=True):
        assert equation.on is not None
        for name in own:
            condition = EquationBC(
                domain,
                lambda *at, eq=equation, name=name: residuals(eq, *at)[name][:, None],
                _pointwise(equation.on, starts),
            )
            conditions.append(condition)
    return pde, conditions


def drawing_of(problem: Problem) -> Draw:
    """Draws pseudo-random points of each kind in the proportions of a problem's training."""
    numbers = [problem.sampling.numbers[name] for name in reversed(problem_parts.NUMBERS)]
    return drawing(geometry(problem.domain), numbers, "pseudo")


def _pointwise(
    on: PointFunction, starts: PointFunction | None = None
) -> Callable[[np.ndarray, bool], bool]:
    """A condition's place, which is on the boundary of space or at the initial time."""

    def at(x: np.ndarray, on_boundary: bool) -> bool:
        outside = on_boundary or (starts is not None and starts(x[None])[0])
        return bool(outside and on(x[None])[0])

    return at


class Network(MLP, dde.nn.NN):  # type: ignore[name-defined]
    """The MLP of this package as a network of DeepXDE, with its first weights: Glorot uniform."""

    def __init__(self, network: problem_parts.Network) -> None:
        first = dde.nn.FNN(list(network.layers), network.activation, "Glorot uniform")
        super().__init__(network.layers, network.activation, network.scale, network.envelope)
        self.load_state_dict(first.state_dict())
        if network.center is not None:
            center = torch.tensor(network.center) / torch.tensor(network.scale)
            with torch.no_grad():
                self.get_parameter("linears.0.bias").copy_(-first.linears[0].weight @ center)


class PinnModel(dde.Model):  # type: ignore[name-defined]
    """A ``dde.Model`` of a problem, which knows its network with names and equations: ``pinn``."""

    def __init__(self, data: Any, pinn: Pinn) -> None:
        super().__init__(data, pinn.network)
        self.pinn = pinn

    @property
    def train_x(self) -> np.ndarray:
        """The training points: float32 ``[n_train, n_inputs]``, boundary first, each once."""
        points: np.ndarray = self.data.train_x_all
        return points


def build(problem: Problem, conditions: str, seed: int) -> PinnModel:
    """DeepXDE's model of a problem: its points, its network (Glorot uniform), its loss terms.

    The data are a ``TimePDE`` where the problem has a time; points come in the order initial,
    boundary, domain.

    Raises:
        InputError: no such conditions, a seed that cannot be, or a loss term without points.
    """
    with input_errors():
        problem.equations(conditions)
    if not 0 <= seed < 2**32:
        raise InputError(f"the seed must be from 0 to {2**32 - 1}, found {seed}")
    unused = MLP(problem.network.layers, problem.network.activation)
    terms = Pinn.of(problem, conditions, unused)
    pde, icbcs = operators(terms, problem, lambda x: model.net(x))
    with contextlib.redirect_stdout(io.StringIO()):
        dde.config.set_default_float("float32")
    dde.config.set_random_seed(seed)
    kind = dde.data.TimePDE if problem.has_time else dde.data.PDE
    used = problem.sampling.numbers
    if not problem.has_time:
        used.pop("num_initial")
    domain, sampling = geometry(problem.domain), problem.sampling
    data = kind(
        domain,
        pde,
        icbcs,
        **used,
        train_distribution=sampling.distribution,
        anchors=np.array(sampling.anchors, np.float32) if sampling.anchors else None,
    )
    model = PinnModel(data, replace(terms, network=Network(problem.network)))
    for name, rows in model.pinn.at(model.train_x).term_rows().items():
        if len(rows) == 0:
            *some, last = (f"{n} {key.removeprefix('num_')}" for key, n in used.items())
            raise InputError(
                f"loss term {name} acts on none of {', '.join(some)} and {last} points; raise "
                + " or ".join(f"--{key}" for key in used if key != "num_domain")
            )
    return model
