"""The only room that knows DeepXDE: geometry, data and model of a problem."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pinnfluence.errors import InputError, input_errors
from pinnfluence.field.field import Field, parse
from pinnfluence.field.network import MLP
from pinnfluence.loss.loss import LossStep
from pinnfluence.loss.pinn import Pinn
from pinnfluence.problem.domain import Difference, Disk, Interval, Rectangle, SpaceTime
from pinnfluence.problem.problem import NUMBERS, Equation, Predicate, Problem


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

MAX_WIDTH, MAX_POINTS = 10**6, 10**9


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
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._inputs:
            return self._x[:, self._inputs.index(name)]
        output, index = parse(name, self._inputs, self._outputs)
        values = self._streams[()]
        if len(index) == 0:
            return values[:, output]  # type: ignore[index]
        if len(index) == 1:
            return dde.grad.jacobian(values, self._x, i=output, j=index[0])[:, 0]
        if len(index) == 2:
            i, j = index
            return dde.grad.hessian(values, self._x, component=output, i=i, j=j)[:, 0]
        raise NotImplementedError(f"{name}: derivatives above the second are not looked up")


def operators(
    equations: Sequence[Equation], names: Sequence[Sequence[str]], problem: Problem
) -> tuple[Callable[[Tensor, Tensor], list[Tensor]], list[Any]]:
    """The PDE as a function, and the conditions as ``OperatorBC``, in DeepXDE's conventions."""

    def residual(equation: Equation, x: Tensor, y: Tensor, name: str) -> Tensor:
        field = GradField(problem.inputs, problem.outputs, x, {(): y})
        return equation.residuals(field)[name][:, None]

    def pde(x: Tensor, y: Tensor) -> list[Tensor]:
        return [residual(equations[0], x, y, name) for name in names[0]]

    domain, conditions = geometry(problem.domain), []
    starts = problem.domain.at_start if isinstance(problem.domain, SpaceTime) else None
    for equation, terms in zip(equations[1:], names[1:], strict=True):
        assert equation.on is not None
        for name in terms:
            condition = dde.icbc.OperatorBC(
                domain,
                lambda x, y, X, eq=equation, name=name: residual(eq, x, y, name),
                _pointwise(equation.on, starts),
            )
            conditions.append(condition)
    return pde, conditions


def _pointwise(
    on: Predicate, starts: Predicate | None = None
) -> Callable[[np.ndarray, bool], bool]:
    """A condition's place, which is on the boundary of space or at the initial time."""

    def at(x: np.ndarray, on_boundary: bool) -> bool:
        outside = on_boundary or (starts is not None and starts(x[None])[0])
        return bool(outside and on(x[None])[0])

    return at


class PinnModel(dde.Model):  # type: ignore[name-defined]
    """A ``dde.Model`` whose loss terms and gradients come from one function of the parameters.

    ``step`` replaces DeepXDE's evaluation of the losses at the training points after ``compile``;
    its training loop, callbacks, displays, ``save`` and ``restore`` go on working. Without a step
    it is a plain ``dde.Model``.
    """

    def __init__(self, data: Any, net: torch.nn.Module, pinn: Pinn) -> None:
        super().__init__(data, net)
        self.pinn = pinn
        self.step: LossStep | None = None
        self.losses: Tensor | None = None
        self.opt: torch.optim.Optimizer

    @property
    def train_x(self) -> np.ndarray:
        """The training points: float32 ``[n_train, n_inputs]``, boundary first, each once."""
        points: np.ndarray = self.data.train_x_all
        return points

    def params(self) -> dict[str, Tensor]:
        """The network's parameters by name."""
        return dict(self.net.named_parameters())

    def gradient_step(self) -> Tensor:
        """Evaluate the loss terms ``[n_terms]`` and put the gradients into ``.grad``."""
        assert self.step is not None
        params = self.params()
        losses, gradients = self.step({name: p.detach() for name, p in params.items()})
        for name, p in params.items():
            p.grad = gradients[name]
        self.losses = losses
        return losses.sum()

    def _compile_pytorch(self, lr: float | None, loss_fn: Any, decay: Any) -> None:
        super()._compile_pytorch(lr, loss_fn, decay)
        if self.step is None:
            return
        if self.opt_name == "adam":
            on = next(self.net.parameters()).device.type
            fused = on in ("cpu", "cuda", "mps")
            self.opt = torch.optim.Adam(self.net.parameters(), lr=lr or 1e-3, fused=fused)

        def outputs_losses(inputs: Any, targets: Any, auxiliary: Any) -> tuple[Tensor, Tensor]:
            assert self.step is not None
            x = torch.as_tensor(inputs).to(next(self.net.parameters()))
            return self.net(x), self.step({name: p.detach() for name, p in self.params().items()})[
                0
            ]

        def train_step(inputs: Any, targets: Any, auxiliary: Any) -> None:
            self.opt.step(self.gradient_step)  # type: ignore[arg-type]

        self.outputs_losses_train = self.outputs_losses_test = outputs_losses
        self.train_step = train_step


def build(
    problem: Problem,
    conditions: str,
    layers: Sequence[int],
    num_domain: int,
    num_boundary: int,
    seed: int,
    num_initial: int = 0,
) -> PinnModel:
    """DeepXDE's model of a problem: its points, its network (Glorot uniform), its loss terms.

    The data are a ``TimePDE`` where the problem has a time; points come in the order initial,
    boundary, domain.

    Raises:
        InputError: layers, numbers of points or a seed that cannot be; a loss term without points.
    """
    layers = tuple(layers)
    numbers = dict(zip(NUMBERS, (num_domain, num_boundary, num_initial), strict=True))
    with input_errors():
        problem.equations(conditions)
        _check_numbers(problem, layers, numbers, seed)
    network = MLP(layers, problem.activation, problem.scale, problem.envelope)
    pinn = Pinn.of(problem, conditions, network)
    pde, icbcs = operators(pinn.equations, pinn.names, problem)
    with contextlib.redirect_stdout(io.StringIO()):
        dde.config.set_default_float("float32")
    dde.config.set_random_seed(seed)
    kind = dde.data.TimePDE if problem.has_time else dde.data.PDE
    used = {name: n for name, n in numbers.items() if problem.has_time or name != "num_initial"}
    data = kind(geometry(problem.domain), pde, icbcs, **used)
    for name, rows in pinn.at(data.train_x_all).term_rows().items():
        if len(rows) == 0:
            *some, last = (f"{n} {key.removeprefix('num_')}" for key, n in used.items())
            raise InputError(
                f"loss term {name} acts on none of {', '.join(some)} and {last} points; raise "
                + " or ".join(f"--{key}" for key in used if key != "num_domain")
            )
    return PinnModel(data, _network(problem, layers), pinn)


def _network(problem: Problem, layers: tuple[int, ...]) -> torch.nn.Module:
    """DeepXDE's network: Glorot uniform, scaled inputs, outputs times the envelope."""
    net = dde.nn.FNN(list(layers), problem.activation, "Glorot uniform")
    net.apply_feature_transform(lambda x: x / x.new_tensor(problem.scale))
    if problem.envelope is not None:
        envelope = problem.envelope
        net.apply_output_transform(lambda x, y: envelope(x) * y)
    if problem.center is not None:
        first = net.linears[0]
        center = torch.tensor(problem.center) / torch.tensor(problem.scale)
        with torch.no_grad():
            first.bias.copy_(-first.weight @ center)
    return net


def _check_numbers(
    problem: Problem, layers: tuple[int, ...], numbers: Mapping[str, int], seed: int
) -> None:
    ends = (len(problem.inputs), len(problem.outputs))
    if len(layers) < 2 or (layers[0], layers[-1]) != ends:
        raise InputError(
            f"layers must begin with {ends[0]} inputs and end with {ends[1]} outputs, "
            f"found {' '.join(map(str, layers))}"
        )
    if not all(1 <= width <= MAX_WIDTH for width in layers):
        raise InputError(
            f"layers must have widths from 1 to {MAX_WIDTH}, found {' '.join(map(str, layers))}"
        )
    for name, n in numbers.items():
        if not 0 <= n <= MAX_POINTS:
            raise InputError(f"{name} must be from 0 to {MAX_POINTS}, found {n}")
    if numbers["num_initial"] and not problem.has_time:
        raise InputError(
            f"{problem.name} has no time, found {numbers['num_initial']} initial points; "
            "leave --num_initial out"
        )
    if sum(numbers.values()) == 0:
        raise InputError("the numbers of points are 0; expected at least one point")
    if not 0 <= seed < 2**32:
        raise InputError(f"the seed must be from 0 to {2**32 - 1}, found {seed}")
