"""The contract of a problem: what is solved, and the parts that say how."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from torch import Tensor

from pinnfluence.field.field import Field, FieldFunction
from pinnfluence.problem.domain import Shape, SpaceTime
from pinnfluence.problem.equation import Equation
from pinnfluence.problem.forces import Integral
from pinnfluence.problem.labels import Labels
from pinnfluence.problem.parts import Changes, Drawing, Network, Sampling, Schedule
from pinnfluence.problem.reference import Reference

Evaluate = Callable[[np.ndarray, Sequence[str]], Mapping[str, np.ndarray]]
"""From points ``[n, d]`` and names such as ``u_x`` to these fields, each ``[n]``."""

PARTS = ("sampling", "network", "schedule", "drawing")


@dataclass(frozen=True)
class Problem:
    """A partial differential equation with its conditions, and how it is solved and drawn.

    Args:
        name: name for the command line, the module's own.
        inputs: input names of one letter, for example ``("x", "y")``; time comes last.
        outputs: output names without underscore, for example ``("u", "v", "p")``.
        domain: a region of the module ``domain``; with a time, a ``SpaceTime``.
        pde: function of a ``Field`` that gives the residuals of the equation by name.
        conditions: named sets of boundary and initial conditions; the first is the default.
        sampling, network, schedule, drawing: see the module ``parts``.
        loss_weights: c_k of the loss ``sum_k c_k mean r_k^2`` by name of the term; others are 1.
        quantities: derived quantities by name, functions of a ``Field``.
        variants: what each changes, by the names of the fields here and in the parts, for example
            ``{"bad": {"num_domain": 100}}``; the first is the problem as it is.
        reference: function that reads or computes the reference solution, if there is one.
        measures: numbers by name that one asks of a solution, such as forces, from its fields.
        integrals: numbers as sums over points, for influence, by name.
        benchmark: the right values of some of the measures.

    Raises:
        ValueError: names, layers or numbers that do not fit together.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    domain: Shape
    pde: Callable[[Field], dict[str, Tensor]]
    conditions: Mapping[str, tuple[Equation, ...]]
    sampling: Sampling
    network: Network
    schedule: Schedule = field(default_factory=Schedule)
    drawing: Drawing = field(default_factory=Drawing)
    loss_weights: Mapping[str, float] = field(default_factory=dict)
    quantities: Mapping[str, FieldFunction] = field(default_factory=dict)
    variants: Mapping[str, Changes] = field(default_factory=lambda: {"good": {}})
    reference: Callable[[], Reference] | None = None
    measures: Callable[[Evaluate], Mapping[str, float]] | None = None
    integrals: Callable[[], Mapping[str, Integral]] | None = None
    benchmark: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if any(len(name) != 1 for name in self.inputs):
            raise ValueError(f"inputs must be single letters, found {self.inputs}")
        if any("_" in name for name in self.outputs):
            raise ValueError(f"outputs must have no underscore, found {self.outputs}")
        if set(self.inputs) & set(self.outputs):
            raise ValueError(
                f"inputs and outputs must have different names, found {self.inputs} and "
                f"{self.outputs}"
            )
        ends = (self.network.layers[0], self.network.layers[-1])
        if ends != (len(self.inputs), len(self.outputs)):
            raise ValueError(
                f"layers must begin with {len(self.inputs)} inputs and end with "
                f"{len(self.outputs)} outputs, found {' '.join(map(str, self.network.layers))}"
            )
        for name in ("scale", "center"):
            values = getattr(self.network, name)
            if values is not None and len(values) != len(self.inputs):
                raise ValueError(f"{name} needs {len(self.inputs)} values, found {values}")
        if not self.conditions or not self.variants:
            raise ValueError("a problem needs at least one set of conditions and one variant")
        if any(not weight > 0 for weight in self.loss_weights.values()):
            raise ValueError(f"loss weights must be positive, found {dict(self.loss_weights)}")
        if (n := self.sampling.num_initial) and not self.has_time:
            raise ValueError(
                f"{self.name} has no time, found {n} initial points: num_initial must be 0"
            )
        known = {*self.inputs, *self.observables}
        if unknown := sorted({*self.drawing.symbols, *self.drawing.signed} - known):
            raise ValueError(f"symbols of no input, output or quantity: {', '.join(unknown)}")
        for changes in filter(None, self.variants.values()):
            replace(self, variants={"good": {}}).changed(**changes)

    @property
    def has_time(self) -> bool:
        """Whether the last input is a time, at whose beginning there may be points."""
        return isinstance(self.domain, SpaceTime)

    @property
    def observables(self) -> tuple[str, ...]:
        """Names of the outputs and the derived quantities."""
        return (*self.outputs, *self.quantities)

    @property
    def labels(self) -> Labels:
        """What figures and tables call its inputs and fields."""
        symbols = self.drawing.symbols
        rest = (name for name in self.observables if name not in symbols)
        shown = (*(name for name in symbols if name not in self.inputs), *rest)
        return Labels((self.inputs[0], self.inputs[-1]), symbols, shown, self.drawing.signed)

    def changed(self, **changes: Any) -> Problem:
        """The problem with other values of some fields, its own or those of its parts.

        Raises:
            ValueError: no such field, or values that do not fit.
        """
        own: dict[str, Any] = {}
        known = {f.name for f in fields(self)} - {"name", "variants", *PARTS}
        for name in PARTS:
            part = getattr(self, name)
            belonging = {f.name for f in fields(part)}
            of_part = {key: value for key, value in changes.items() if key in belonging}
            if of_part:
                own[name] = replace(part, **of_part)
            known |= belonging
        if unknown := sorted(changes.keys() - known):
            raise ValueError(
                f"a problem has no {', '.join(unknown)} to change, expected some of "
                + ", ".join(sorted(known))
            )
        rest = {key: value for key, value in changes.items() if hasattr(self, key)}
        return replace(self, **own, **rest)

    def variant(self, name: str) -> Problem:
        """The problem with what the named variant changes.

        Raises:
            ValueError: no such variant.
        """
        if name not in self.variants:
            known = ", ".join(self.variants)
            raise ValueError(f"{self.name} has no variant {name!r}, expected one of {known}")
        return self.changed(**self.variants[name])

    def variant_with(self, name: str, numbers: Mapping[str, int]) -> str:
        """The first variant that is the named one with these numbers of points.

        The named one itself where there is none.
        """
        wanted = self.variant(name).changed(**numbers)
        return next((other for other in self.variants if self.variant(other) == wanted), name)

    def equations(self, conditions: str) -> tuple[Equation, ...]:
        """The PDE followed by the named set of conditions.

        Raises:
            ValueError: no such set.
        """
        if conditions not in self.conditions:
            known = ", ".join(self.conditions)
            raise ValueError(
                f"{self.name} has no conditions {conditions!r}, expected one of {known}"
            )
        return (Equation(self.pde), *self.conditions[conditions])
