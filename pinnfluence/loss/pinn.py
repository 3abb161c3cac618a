"""A physics-informed neural network, and its equations at collocation points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from pinnfluence.errors import InputError
from pinnfluence.field.field import RESERVED, Declared, Field, FieldFunction, evaluate
from pinnfluence.field.network import MLP, MultiIndex, Tape, closure
from pinnfluence.loss.points import PointSet, PointTensors
from pinnfluence.problem.equation import Equation
from pinnfluence.problem.problem import Problem
from pinnfluence.runtime.devices import float64_array, tensor_like

Params = Mapping[str, Tensor]

SUMS = ("pde", "bcs", "all")
"""Sums of loss terms: of the PDE, of all conditions and data, of both."""


@dataclass(frozen=True)
class Pinn:
    """A physics-informed neural network: a module, names of inputs and outputs, equations.

    Args:
        network: module from points ``[n, n_inputs]`` to outputs ``[n, n_outputs]``.
        inputs: names of the inputs, single letters.
        outputs: names of the outputs.
        equations: the equations whose residuals are trained to zero, in the order of the loss.
        quantities: derived quantities by name.
        loss_weights: DeepXDE's weights c_k by name of the loss term; missing ones are 1.
        training: the points of the training, where they say more than ``Equation.on``: which rows
            each equation had, with repeated points distinguished.
        theta: names of the parameters that training moved; None means all of the network's. The
            others are constants.
        weight_decay: of the optimiser, which minimised ``L + weight_decay |theta|^2 / 2``.

    Raises:
        ValueError: two inputs, outputs, loss terms or quantities of one name; parameters in
            ``theta`` that the network does not have.
    """

    network: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    equations: tuple[Equation, ...]
    quantities: Mapping[str, FieldFunction] = field(default_factory=dict)
    loss_weights: Mapping[str, float] = field(default_factory=dict)
    training: PointSet | None = None
    theta: tuple[str, ...] | None = None
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        names = [*self.inputs, *self.outputs, *self.quantities, *self.terms, *self.groups]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            sums = " (pde, bcs and all are also names of sums)" if {*twice} & {*SUMS} else ""
            raise ValueError(f"names must be different, found twice: {', '.join(twice)}{sums}")
        taken = sorted(RESERVED & {*self.inputs, *self.outputs})
        if taken:
            raise ValueError(f"names that a field has for other things: {', '.join(taken)}")
        unfit = [n for n, c in self.loss_weights.items() if n not in self.terms or not c >= 0]
        if unfit:
            raise ValueError(
                f"loss weights must be at least 0, of {', '.join(self.terms)}; found "
                + ", ".join(f"{name} {self.loss_weights[name]}" for name in unfit)
            )
        unknown = sorted(set(self.theta or ()) - {n for n, _ in self.network.named_parameters()})
        if unknown or self.theta == ():
            raise ValueError(f"theta must be parameters of the network, found {unknown or 'none'}")

    @classmethod
    def of(cls, problem: Problem, conditions: str, network: nn.Module) -> Pinn:
        """A network that solves a problem under a set of its conditions.

        Raises:
            ValueError: no such conditions.
        """
        names, equations = (problem.inputs, problem.outputs), problem.equations(conditions)
        return cls(network, *names, equations, problem.quantities, problem.loss_weights)

    @cached_property
    def params(self) -> dict[str, Tensor]:
        """The parameters theta by name, detached, in the network's order."""
        return {n: p.detach() for n, p in self.network.named_parameters() if self._is_theta(n)}

    @cached_property
    def constants(self) -> dict[str, Tensor]:
        """The parameters that are not in theta, by name, detached."""
        return {n: p.detach() for n, p in self.network.named_parameters() if not self._is_theta(n)}

    def _is_theta(self, name: str) -> bool:
        return self.theta is None or name in self.theta

    @property
    def like(self) -> Tensor:
        """A parameter, whose dtype and device are those of all tensors."""
        return next(iter(self.params.values()))

    @property
    def training_points(self) -> np.ndarray:
        """The points of the training ``[n_train, n_inputs]``.

        Raises:
            InputError: this network came without.
        """
        if self.training is None:
            raise InputError("no training points: give train_x, as this Pinn has none of its own")
        return self.training.x

    @property
    def n_params(self) -> int:
        """Number of parameters in theta."""
        return sum(p.numel() for p in self.params.values())

    @cached_property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """Names of the loss terms of each equation."""
        return self.names_of(self.equations)

    def names_of(self, equations: Sequence[Equation]) -> tuple[tuple[str, ...], ...]:
        """Names of the residuals that each equation gives; an ordinary function is called once."""
        like = next(self.network.parameters(), torch.zeros(0))  # not yet self.params: it may move
        return tuple(eq.probed(self.inputs, self.outputs, like)[0] for eq in equations)

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of all loss terms, in the order of the loss."""
        return tuple(name for names in self.names for name in names)

    @property
    def groups(self) -> dict[str, list[str]]:
        """The loss terms in each of the sums ``pde``, ``bcs`` and ``all``.

        Without a sum that is the one term of its name.
        """
        groups: dict[str, list[str]] = {name: [] for name in SUMS}
        for equation, names in zip(self.equations, self.names, strict=True):
            groups["pde" if equation.group == "pde" else "bcs"] += names
            groups["all"] += names
        return {name: terms for name, terms in groups.items() if terms != [name]}

    @property
    def observables(self) -> Equation:
        """The outputs and the derived quantities, as functions of the field at every point."""

        def values(f: Field) -> dict[str, Tensor]:
            outputs = {name: getattr(f, name) for name in self.outputs}
            return outputs | {name: function(f) for name, function in self.quantities.items()}

        return Equation(values)

    def derivatives(self, equations: Sequence[Equation]) -> list[MultiIndex]:
        """Multi-indices of the derivatives that the equations use."""
        names = (self.inputs, self.outputs)
        used = {index for eq in equations for index in eq.probed(*names, self.like)[1]}
        return closure(used) if used else []

    def at(self, x: np.ndarray, equations: Sequence[Equation] | None = None) -> Collocation:
        """The loss terms, or other equations, at the points ``x`` of shape ``[n, n_inputs]``."""
        known = self.training
        if equations is None and known is not None and np.array_equal(x, known.x):
            return Collocation(self, self.equations, known)
        chosen = tuple(self.equations if equations is None else equations)
        return Collocation(self, chosen, PointSet.of(x, chosen))


@dataclass(frozen=True)
class Collocation:
    """Equations of a ``Pinn`` at points: residuals ``r_k(z_i; theta)`` as functions of theta."""

    pinn: Pinn
    equations: tuple[Equation, ...]
    points: PointSet

    @property
    def x(self) -> np.ndarray:
        """The points ``[n, n_inputs]``."""
        return self.points.x

    def __len__(self) -> int:
        return len(self.points)

    @cached_property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """Names of the residuals of each equation."""
        return self.pinn.names_of(self.equations)

    def term_rows(self) -> dict[str, np.ndarray]:
        """Indices of the points on which each term acts, S_k, by name."""
        return {
            name: rows
            for names, rows in zip(self.names, self.points.rows, strict=True)
            for name in names
        }

    @property
    def missing(self) -> list[str]:
        """The terms that act at none of the points."""
        return [name for name, rows in self.term_rows().items() if len(rows) == 0]

    def slices(self) -> dict[str, slice]:
        """The rows of each term among all residuals, which stand term by term."""
        ends = np.cumsum([0, *map(len, self.term_rows().values())]).tolist()
        return dict(zip(self.term_rows(), map(slice, ends[:-1], ends[1:]), strict=True))

    @property
    def n_residuals(self) -> int:
        """Number of residuals: the sum of |S_k| over the terms."""
        return sum(map(len, self.term_rows().values()))

    @property
    def in_threads(self) -> bool:
        """Whether several threads may differentiate residuals at once: not in forward mode."""
        on_cpu = self.pinn.like.device.type == "cpu"
        return (
            on_cpu
            and isinstance(self.pinn.network, MLP)
            and all(
                not isinstance(eq.residuals, Declared) or eq.residuals.in_threads
                for eq in self.equations
            )
        )

    def chunks(self, size: int) -> Iterator[Collocation]:
        """The same equations at ``size`` points at a time, in order."""
        for points in self.points.chunks(size):
            yield replace(self, points=points)

    def subset(self, points: np.ndarray) -> Collocation:
        """The same equations at some of the points, by their indices ``[n]`` in rising order."""
        return replace(self, points=self.points.subset(points))

    def only(self, number: int) -> Collocation:
        """One of the equations, at the points on which it acts."""
        equations = (replace(self.equations[number], on=None),)
        return Collocation(self.pinn, equations, self.points.only(number))

    def singles(self) -> Iterator[Collocation]:
        """Each equation alone, in turn."""
        return map(self.only, range(len(self.equations)))

    def tensors(self, like: Tensor | None = None) -> PointTensors:
        """Points, rows and data in the dtype and on the device of ``like``, or the network's."""
        like = self.pinn.like if like is None else like
        images = (images for images in self.points.images if images is not None)
        x = np.concatenate([self.x, *images])
        rows = tuple(torch.as_tensor(rows, device=like.device) for rows in self.points.rows)
        data = tuple(None if d is None else tensor_like(d, like) for d in self.points.data)
        return PointTensors(tensor_like(x, like), rows, data)

    def residuals(
        self, params: Params, at: PointTensors | None = None, tape: Tape | None = None
    ) -> dict[str, Tensor]:
        """Residuals ``r_k(z_i; theta)`` of all terms, ``[n_k]`` by name: one pass at all points.

        Args:
            params: theta by name.
            at: the points' tensors, where they were made before.
            tape: see ``MLP.taylor``.
        """
        at = self.tensors() if at is None else at
        pinn, theta = self.pinn, {**self.pinn.constants, **params}
        wanted = pinn.derivatives(self.equations)
        whole = evaluate(pinn.network, theta, at.x, pinn.inputs, pinn.outputs, wanted, tape)
        residuals: dict[str, Tensor] = {}
        for number, here in enumerate(self._fields(whole, len(at.x), at.rows)):
            if len(at.rows[number]) == 0:
                nothing = next(iter(params.values())).flatten()[:0]
                residuals |= dict.fromkeys(self.names[number], nothing)
                continue
            given = at.data[number]
            if given is not None:
                here.data = given
            residuals |= self.equations[number].residuals(here)
        return residuals

    def evaluate(self, batch_size: int) -> dict[str, np.ndarray]:
        """The residuals at the network's own theta, float64 ``[n_k]`` by name."""
        with torch.no_grad():
            parts = [chunk.residuals(self.pinn.params) for chunk in self.chunks(batch_size)]
        return {
            name: np.concatenate([np.zeros(0), *(float64_array(part[name]) for part in parts)])
            for name in self.term_rows()
        }

    def _fields(self, whole: Field, n_all: int, rows: Sequence[Tensor]) -> Iterator[Field]:
        """The field where each equation acts, with its images, which follow the points in turn."""
        images = self.points.images
        n_images = sum(len(r) for r, there in zip(rows, images, strict=True) if there is not None)
        start = n_points = n_all - n_images
        for number, selected in enumerate(rows):
            everywhere = len(self.points.rows[number]) == len(self.x)
            here = whole[slice(0, n_points) if everywhere else selected]
            if images[number] is not None:
                here.image = whole[slice(start, start + len(selected))]
                start += len(selected)
            yield here
