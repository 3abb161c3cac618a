"""Which loss terms act on which points, and their residuals as functions of the parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from pinnfluence.errors import InputError
from pinnfluence.field.field import (
    RESERVED,
    Field,
    FieldFunction,
    evaluate,
)
from pinnfluence.field.network import MultiIndex, Tape, closure
from pinnfluence.problem.equation import Equation
from pinnfluence.problem.problem import Problem
from pinnfluence.runtime.devices import tensor_like

Params = Mapping[str, Tensor]
LossStep = Callable[[Params], tuple[Tensor, dict[str, Tensor]]]
"""From parameters to the loss terms ``[n_terms]`` and the gradients of their sum by name."""

SUMS = ("pde", "bcs", "all")
"""Sums of loss terms: of the PDE, of all other terms (conditions and data), of both."""

Arrays = tuple[np.ndarray | None, ...]
"""An array for each equation, or None where it needs none."""


@dataclass(frozen=True)
class Places:
    """Points ``x`` ``[n, n_inputs]`` and, for each equation, where it acts among them.

    rows: indices of the points on which it acts. data: its numbers there, ``[n_rows, n_data]``.
    images: the second point of each row, ``[n_rows, n_inputs]``.
    """

    x: np.ndarray
    rows: tuple[np.ndarray, ...]
    data: Arrays
    images: Arrays


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
            each equation had, with repeated points told apart.

    Raises:
        ValueError: two inputs, outputs, loss terms or quantities of one name.
    """

    network: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    equations: tuple[Equation, ...]
    quantities: Mapping[str, FieldFunction] = field(default_factory=dict)
    loss_weights: Mapping[str, float] = field(default_factory=dict)
    training: Places | None = None

    def __post_init__(self) -> None:
        names = [*self.inputs, *self.outputs, *self.quantities, *self.terms, *SUMS]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"names must be different, found twice: {', '.join(twice)}")
        taken = sorted(RESERVED & {*self.inputs, *self.outputs})
        if taken:
            raise ValueError(f"names that a field has for other things: {', '.join(taken)}")
        unfit = [n for n, c in self.loss_weights.items() if n not in self.terms or not c >= 0]
        if unfit:
            raise ValueError(
                f"loss weights must be at least 0, of {', '.join(self.terms)}; found "
                + ", ".join(f"{name} {self.loss_weights[name]}" for name in unfit)
            )

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
        """The parameters theta by name, detached."""
        return {name: p.detach() for name, p in self.network.named_parameters()}

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
        """Number of parameters."""
        return sum(p.numel() for p in self.params.values())

    @cached_property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """Names of the loss terms of each equation."""
        return self.names_of(self.equations)

    def names_of(self, equations: Sequence[Equation]) -> tuple[tuple[str, ...], ...]:
        """Names of the residuals that each equation gives, found by calling it once."""
        like = next(self.network.parameters(), torch.zeros(0))  # not yet self.params: it may move
        return tuple(eq.probed(self.inputs, self.outputs, like)[0] for eq in equations)

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of all loss terms, in the order of the loss."""
        return tuple(name for names in self.names for name in names)

    @property
    def groups(self) -> dict[str, list[str]]:
        """The loss terms in each of the sums ``pde``, ``bcs`` and ``all``."""
        groups: dict[str, list[str]] = {name: [] for name in SUMS}
        for equation, names in zip(self.equations, self.names, strict=True):
            groups["pde" if equation.group == "pde" else "bcs"] += names
            groups["all"] += names
        return groups

    @property
    def observables(self) -> Equation:
        """The outputs and the derived quantities, as functions of the field at every point."""

        def values(f: Field) -> dict[str, Tensor]:
            outputs = {name: getattr(f, name) for name in self.outputs}
            return outputs | {name: function(f) for name, function in self.quantities.items()}

        return Equation(values)

    def derivatives(self, equations: Sequence[Equation]) -> list[MultiIndex]:
        """Multi-indices of the derivatives that the equations use."""
        like = next(iter(self.params.values()))
        return closure(i for eq in equations for i in eq.probed(self.inputs, self.outputs, like)[1])

    def at(self, x: np.ndarray, equations: Sequence[Equation] | None = None) -> Collocation:
        """The loss terms, or other equations, at the points ``x`` of shape ``[n, n_inputs]``."""
        known = self.training
        if equations is None and known is not None and np.array_equal(x, known.x):
            return Collocation(self, self.equations, x, known.rows, known.data, known.images)
        chosen = tuple(self.equations if equations is None else equations)
        masks = [None if eq.on is None else np.asarray(eq.on(x), bool) for eq in chosen]
        everywhere = np.arange(len(x))
        rows = tuple(everywhere if mask is None else np.flatnonzero(mask) for mask in masks)
        acting = [(eq, x[r]) for eq, r in zip(chosen, rows, strict=True)]
        data = tuple(None if eq.data is None else eq.data(points) for eq, points in acting)
        images = tuple(None if eq.image is None else eq.image(points) for eq, points in acting)
        return Collocation(self, chosen, x, rows, data, images)


@dataclass(frozen=True)
class Collocation:
    """Equations at points: ``rows[e]`` are the indices of the points on which equation e acts.

    ``data[e]`` and ``images[e]`` are its data and images at these points, see ``Equation``.
    """

    pinn: Pinn
    equations: tuple[Equation, ...]
    x: np.ndarray
    rows: tuple[np.ndarray, ...]
    data: Arrays = ()
    images: Arrays = ()

    def __post_init__(self) -> None:
        for name in ("data", "images"):
            if not getattr(self, name):
                object.__setattr__(self, name, (None,) * len(self.equations))

    @cached_property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """Names of the residuals of each equation."""
        return self.pinn.names_of(self.equations)

    def term_rows(self) -> dict[str, np.ndarray]:
        """Indices of the points on which each term acts, S_k, by name."""
        return {
            name: rows for names, rows in zip(self.names, self.rows, strict=True) for name in names
        }

    @property
    def has_images(self) -> bool:
        """Whether a residual depends on a second point."""
        return any(images is not None for images in self.images)

    def chunks(self, size: int) -> Iterator[Collocation]:
        """The same equations at ``size`` points at a time, in order."""
        for start in range(0, len(self.x), size):
            yield self._at(slice(start, start + size), [r - start for r in self.rows])

    def subset(self, points: np.ndarray) -> Collocation:
        """The same equations at some of the points, by their indices ``[n]`` in rising order."""
        place = np.full(len(self.x), -1)
        place[points] = np.arange(len(points))
        return self._at(points, [place[r] for r in self.rows])

    def _at(self, points: slice | np.ndarray, places: Sequence[np.ndarray]) -> Collocation:
        """At some points, of which the rows have these places: those among them are kept."""
        x = self.x[points]
        masks = [(place >= 0) & (place < len(x)) for place in places]
        rows = tuple(place[mask] for place, mask in zip(places, masks, strict=True))
        data, images = _masked(self.data, masks), _masked(self.images, masks)
        return Collocation(self.pinn, self.equations, x, rows, data, images)

    def only(self, number: int) -> Collocation:
        """One of the equations, at the points on which it acts."""
        x = self.x[self.rows[number]]
        equations = (replace(self.equations[number], on=None),)
        data, images = (self.data[number],), (self.images[number],)
        return Collocation(self.pinn, equations, x, (np.arange(len(x)),), data, images)

    def tensors(self) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Points, followed by images, and rows as tensors, in the network's dtype and place."""
        like = next(iter(self.pinn.params.values()))
        x = np.concatenate([self.x, *(images for images in self.images if images is not None)])
        rows = tuple(torch.as_tensor(rows, device=like.device) for rows in self.rows)
        return tensor_like(x, like), rows

    def data_tensors(self) -> tuple[Tensor | None, ...]:
        """The data of each equation as tensors, in the network's dtype and place."""
        like = next(iter(self.pinn.params.values()))
        return tuple(None if data is None else tensor_like(data, like) for data in self.data)

    def residuals(
        self,
        params: Params,
        x: Tensor | None = None,
        rows: Sequence[Tensor] | None = None,
        tape: Tape | None = None,
        data: Sequence[Tensor | None] | None = None,
    ) -> dict[str, Tensor]:
        """Residuals ``r_k(z_i; theta)`` of all terms, ``[n_k]`` by name: one pass at all points."""
        if x is None or rows is None:
            x, rows = self.tensors()
        pinn = self.pinn
        wanted = pinn.derivatives(self.equations)
        whole = evaluate(pinn.network, params, x, pinn.inputs, pinn.outputs, wanted, tape)
        residuals: dict[str, Tensor] = {}
        for number, here in enumerate(self._places(whole, len(x), rows)):
            given = self.data_tensors()[number] if data is None else data[number]
            if given is not None:
                here.data = given.to(x.device, x.dtype)
            residuals |= self.equations[number].residuals(here)
        return residuals

    def _places(self, whole: Field, n_all: int, rows: Sequence[Tensor]) -> Iterator[Field]:
        """The field where each equation acts, with its images, which follow the points in turn."""
        with_images = [r for r, images in zip(rows, self.images, strict=True) if images is not None]
        start = n_points = n_all - sum(map(len, with_images))
        for number, selected in enumerate(rows):
            everywhere = len(self.rows[number]) == len(self.x)
            here = whole[slice(0, n_points) if everywhere else selected]
            if self.images[number] is not None:
                here.image = whole[slice(start, start + len(selected))]
                start += len(selected)
            yield here


def _masked(arrays: Arrays, masks: Sequence[np.ndarray]) -> Arrays:
    return tuple(
        None if array is None else array[mask] for array, mask in zip(arrays, masks, strict=True)
    )
