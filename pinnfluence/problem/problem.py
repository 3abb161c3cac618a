"""The contract of a problem: its domain, its equations, its variants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor

from pinnfluence.field.envelope import Envelope
from pinnfluence.field.field import Field, FieldFunction
from pinnfluence.problem.domain import Shape, SpaceTime
from pinnfluence.problem.labels import Labels
from pinnfluence.problem.reference import Reference

Predicate = Callable[[np.ndarray], np.ndarray]
"""From points ``[n, d]`` as stored (float32) to a mask ``[n]``."""

Evaluate = Callable[[np.ndarray, Sequence[str]], Mapping[str, np.ndarray]]
"""From points ``[n, d]`` and names such as ``u_x`` to these fields, each ``[n]``."""

Training = Mapping[str, int | float | str]

TRAINING: Training = {
    "n_iterations": 100_000,
    "n_iterations_lbfgs": 25_000,
    "n_iterations_lm": 0,
    "lr": 1e-3,
    "dtype": "float32",
}
"""How ``train.py`` trains where neither its flags nor the problem say it: the paper's way."""

NUMBERS = ("num_domain", "num_boundary", "num_initial")


@dataclass(frozen=True)
class Equation:
    """Residuals that training drives to zero, and the points on which they act.

    Args:
        residuals: function of a ``Field`` that gives residuals ``[n]`` by name of the loss term.
            A residual may depend on the field at its own point and at its image alone.
        on: points on which the terms act; None means all, as for a PDE.
        data: function that gives numbers ``[n, n_data]`` at points ``[n, d]`` as stored, such as
            targets and normals: ``f.data``. Evaluated once for a set of points, never per batch.
        image: function that gives to each point a second one, as for a periodic condition:
            ``f.image`` is the field there.
    """

    residuals: Callable[[Field], dict[str, Tensor]]
    on: Predicate | None = None
    data: Callable[[np.ndarray], np.ndarray] | None = None
    image: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def group(self) -> str:
        """``pde`` or ``bcs`` (boundary and initial conditions)."""
        return "pde" if self.on is None else "bcs"


@dataclass(frozen=True)
class Variant:
    """What a variant of a problem changes; None leaves the problem's own value."""

    pde: Callable[[Field], dict[str, Tensor]] | None = None
    layers: tuple[int, ...] | None = None
    scale: tuple[float, ...] | None = None
    num_domain: int | None = None
    num_boundary: int | None = None
    num_initial: int | None = None
    loss_weights: Mapping[str, float] | None = None
    envelope: Envelope | None = None
    center: tuple[float, ...] | None = None
    training: Training | None = None


@dataclass(frozen=True)
class Problem:
    """A partial differential equation with its conditions, network and reference.

    Args:
        name: name for the command line, the module's own.
        inputs: input names of one letter, for example ``("x", "y")``; time comes last.
        outputs: output names without underscore, for example ``("u", "v", "p")``.
        domain: a region of the module ``domain``; with a time, a ``SpaceTime``.
        pde: function of a ``Field`` that gives the residuals of the equation by name.
        conditions: named sets of boundary and initial conditions; the first is the default.
        layers, activation, scale: the multilayer perceptron and its input scaling.
        envelope: factor of the outputs, for conditions that hold exactly.
        center: point through which the zero lines of the first layer's units go at the beginning
            of training; None is the origin.
        num_domain, num_boundary, num_initial: numbers of training points inside, on the boundary
            of space, and at the initial time.
        loss_weights: c_k of the loss ``sum_k c_k mean r_k^2`` by name of the term; others are 1.
        quantities: derived quantities by name, functions of a ``Field``.
        variants: by name; the first is the problem as it is.
        reference: function that reads or computes the reference solution, if there is one.
        measures: numbers by name that one asks of a solution, such as forces, from its fields.
        benchmark: the right values of some of the measures.
        symbols: symbol and unit by name of an input, output or derived quantity, for example
            ``("$p$", "Pa")``; outputs and quantities in the order in which figures show them.
        signed: fields that figures draw in diverging colours.
        training: what is not as in ``TRAINING``, unless flags say otherwise.

    Raises:
        ValueError: names, layers or numbers that do not fit together.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    domain: Shape
    pde: Callable[[Field], dict[str, Tensor]]
    conditions: Mapping[str, tuple[Equation, ...]]
    layers: tuple[int, ...]
    activation: str
    scale: tuple[float, ...]
    num_domain: int
    num_boundary: int
    num_initial: int = 0
    loss_weights: Mapping[str, float] = field(default_factory=dict)
    envelope: Envelope | None = None
    center: tuple[float, ...] | None = None
    quantities: Mapping[str, FieldFunction] = field(default_factory=dict)
    variants: Mapping[str, Variant] = field(default_factory=lambda: {"good": Variant()})
    reference: Callable[[], Reference] | None = None
    measures: Callable[[Evaluate], Mapping[str, float]] | None = None
    benchmark: Mapping[str, float] = field(default_factory=dict)
    symbols: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    signed: tuple[str, ...] = ()
    training: Training = field(default_factory=dict)

    def __post_init__(self) -> None:
        if any(len(name) != 1 for name in self.inputs):
            raise ValueError(f"inputs must be single letters, found {self.inputs}")
        if any("_" in name for name in self.outputs):
            raise ValueError(f"outputs must have no underscore, found {self.outputs}")
        if len(self.scale) != len(self.inputs) or set(self.inputs) & set(self.outputs):
            raise ValueError(
                f"expected a scale an input and outputs of other names, found scale {self.scale}, "
                f"inputs {self.inputs}, outputs {self.outputs}"
            )
        ends = (self.layers[0], self.layers[-1])
        if ends != (len(self.inputs), len(self.outputs)):
            raise ValueError(
                f"layers must begin with {len(self.inputs)} inputs and end with "
                f"{len(self.outputs)} outputs, found {self.layers}"
            )
        if not self.conditions or not self.variants:
            raise ValueError("a problem needs at least one set of conditions and one variant")
        if any(not weight > 0 for weight in self.loss_weights.values()):
            raise ValueError(f"loss weights must be positive, found {dict(self.loss_weights)}")
        self._check_training()

    def _check_training(self) -> None:
        numbers = {name: getattr(self, name) for name in NUMBERS}
        if min(numbers.values()) < 0:
            raise ValueError(f"numbers of points must not be negative, found {numbers}")
        if self.num_initial and not self.has_time:
            raise ValueError(f"{self.name} has no time: num_initial must be 0")
        if unknown := sorted(set(self.training) - set(TRAINING)):
            known = ", ".join(TRAINING)
            raise ValueError(f"training must be some of {known}; found {', '.join(unknown)}")
        known_names = {*self.inputs, *self.observables}
        if unknown := sorted({*self.symbols, *self.signed} - known_names):
            raise ValueError(f"symbols of no input, output or quantity: {', '.join(unknown)}")

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
        rest = (name for name in self.observables if name not in self.symbols)
        fields = (*(name for name in self.symbols if name not in self.inputs), *rest)
        axes = (self.inputs[0], self.inputs[-1])
        return Labels(axes, self.symbols, fields, self.signed)

    def variant(self, name: str) -> Problem:
        """The problem with what the named variant changes.

        Raises:
            ValueError: no such variant.
        """
        if name not in self.variants:
            known = ", ".join(self.variants)
            raise ValueError(f"{self.name} has no variant {name!r}, expected one of {known}")
        change = vars(self.variants[name])
        return replace(self, **{key: value for key, value in change.items() if value is not None})

    def variant_with(self, name: str, numbers: Mapping[str, int]) -> str:
        """The first variant that differs from the named one in these numbers of points at most.

        The named one itself where there is none.
        """
        problem = self.variant(name)
        for other in self.variants:
            found = self.variant(other)
            own = {key: getattr(found, key) for key in NUMBERS}
            if own == dict(numbers) and replace(problem, **own) == found:
                return other
        return name

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
