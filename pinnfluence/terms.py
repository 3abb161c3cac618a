"""Which loss terms act on which points, and their residuals as functions of the parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from pinnfluence.field import Field, FieldFunction, derivatives_used, evaluate
from pinnfluence.network import MultiIndex, Tape
from pinnfluence.problem import Equation

Params = Mapping[str, Tensor]
LossStep = Callable[[Params], tuple[Tensor, dict[str, Tensor]]]
"""From parameters to the loss terms ``[n_terms]`` and the gradients of their sum by name."""

SUMS = ("pde", "bcs", "all")
"""Sums of loss terms: of the PDE, of boundary and initial conditions, of both."""


@dataclass(frozen=True)
class Pinn:
    """A physics-informed neural network: a module, names of inputs and outputs, equations.

    Args:
        network: module from points ``[n, n_inputs]`` to outputs ``[n, n_outputs]``.
        inputs: names of the inputs, single letters.
        outputs: names of the outputs.
        equations: the equations whose residuals are trained to zero, in the order of the loss.
        quantities: derived quantities by name.

    Raises:
        ValueError: two inputs, outputs, loss terms or quantities of one name.
    """

    network: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    equations: tuple[Equation, ...]
    quantities: Mapping[str, FieldFunction] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [*self.inputs, *self.outputs, *self.quantities, *self.terms, *SUMS]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"names must be different, found twice: {', '.join(twice)}")

    @cached_property
    def params(self) -> dict[str, Tensor]:
        """The parameters theta by name, detached."""
        return {name: p.detach() for name, p in self.network.named_parameters()}

    @cached_property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """Names of the loss terms of each equation."""
        return self.names_of(self.equations)

    def names_of(self, equations: Sequence[Equation]) -> tuple[tuple[str, ...], ...]:
        """Names of the residuals that each equation gives, found by calling it once."""
        probe = torch.zeros(1, len(self.inputs))
        found: list[tuple[str, ...]] = []
        for equation in equations:

            def note(field: Field, equation: Equation = equation) -> None:
                found.append(tuple(equation.residuals(field)))

            derivatives_used([note], self.inputs, self.outputs, probe)
        return tuple(found)

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of all loss terms, in the order of the loss."""
        return tuple(name for names in self.names for name in names)

    @property
    def groups(self) -> dict[str, list[str]]:
        """The loss terms in each of the sums ``pde``, ``bcs`` and ``all``."""
        groups: dict[str, list[str]] = {name: [] for name in SUMS}
        for equation, names in zip(self.equations, self.names, strict=True):
            groups[equation.group] += names
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
        probe = next(iter(self.params.values())).new_zeros(1, len(self.inputs))
        functions = [equation.residuals for equation in equations]
        return derivatives_used(functions, self.inputs, self.outputs, probe)

    def at(self, x: np.ndarray, equations: Sequence[Equation] | None = None) -> Collocation:
        """The loss terms, or other equations, at the points ``x`` of shape ``[n, n_inputs]``."""
        chosen = tuple(self.equations if equations is None else equations)
        masks = [None if eq.on is None else np.asarray(eq.on(x), bool) for eq in chosen]
        everywhere = np.arange(len(x))
        rows = tuple(everywhere if mask is None else np.flatnonzero(mask) for mask in masks)
        return Collocation(self, chosen, x, rows)


@dataclass(frozen=True)
class Collocation:
    """Equations at points: ``rows[e]`` are the indices of the points on which equation e acts."""

    pinn: Pinn
    equations: tuple[Equation, ...]
    x: np.ndarray
    rows: tuple[np.ndarray, ...]

    @cached_property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """Names of the residuals of each equation."""
        return self.pinn.names_of(self.equations)

    def term_rows(self) -> dict[str, np.ndarray]:
        """Indices of the points on which each term acts, S_k, by name."""
        return {
            name: rows for names, rows in zip(self.names, self.rows, strict=True) for name in names
        }

    def chunks(self, size: int) -> Iterator[Collocation]:
        """The same equations at ``size`` points at a time, in order."""
        for start in range(0, len(self.x), size):
            rows = tuple(r[(r >= start) & (r < start + size)] - start for r in self.rows)
            yield Collocation(self.pinn, self.equations, self.x[start : start + size], rows)

    def only(self, number: int) -> Collocation:
        """One of the equations, at the points on which it acts."""
        x = self.x[self.rows[number]]
        equation = replace(self.equations[number], on=None)
        return Collocation(self.pinn, (equation,), x, (np.arange(len(x)),))

    def tensors(self) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Points and rows as tensors, with the network's dtype and on its device."""
        like = next(iter(self.pinn.params.values()))
        x = torch.as_tensor(self.x).to(like.device, like.dtype)
        return x, tuple(torch.as_tensor(rows, device=like.device) for rows in self.rows)

    def residuals(
        self,
        params: Params,
        x: Tensor | None = None,
        rows: Sequence[Tensor] | None = None,
        tape: Tape | None = None,
    ) -> dict[str, Tensor]:
        """Residuals ``r_k(z_i; theta)`` of all terms, ``[n_k]`` by name: one pass at all points."""
        if x is None or rows is None:
            x, rows = self.tensors()
        pinn = self.pinn
        wanted = pinn.derivatives(self.equations)
        whole = evaluate(pinn.network, params, x, pinn.inputs, pinn.outputs, wanted, tape)
        residuals: dict[str, Tensor] = {}
        for equation, selected in zip(self.equations, rows, strict=True):
            here = whole if equation.on is None else whole[selected]
            residuals |= equation.residuals(here)
        return residuals
