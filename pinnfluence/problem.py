"""The contract of a problem: its domain, its equations, its variants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor

from pinnfluence.envelope import Envelope
from pinnfluence.field import Field, FieldFunction

Predicate = Callable[[np.ndarray], np.ndarray]
"""From points ``[n, d]`` as stored (float32) to a mask ``[n]``."""

Evaluate = Callable[[np.ndarray, Sequence[str]], Mapping[str, np.ndarray]]
"""From points ``[n, d]`` and names such as ``u_x`` to these fields, each ``[n]``."""

TOLERANCE = 1e-6
"""Distance up to which a point counts as inside the domain or on a boundary."""


class Shape(Protocol):
    """A closed region of space."""

    def excess(self, x: np.ndarray) -> np.ndarray:
        """Distance ``[n]`` by which points lie outside the region; 0 or less inside."""
        ...


@dataclass(frozen=True)
class Rectangle:
    """Axis-parallel rectangle from its lower left to its upper right corner."""

    low: tuple[float, float]
    high: tuple[float, float]

    def __sub__(self, hole: Disk) -> Difference:
        return Difference(self, hole)

    def excess(self, x: np.ndarray) -> np.ndarray:
        """Largest distance to one of the four sides, positive outside, ``[n]``."""
        return np.maximum(np.subtract(self.low, x), np.subtract(x, self.high)).max(axis=1)


@dataclass(frozen=True)
class Disk:
    """Disk with a centre and a radius."""

    center: tuple[float, float]
    radius: float

    def excess(self, x: np.ndarray) -> np.ndarray:
        """Distance to the circle, positive outside, ``[n]``."""
        return np.hypot(*(np.subtract(x, self.center).T)) - self.radius


@dataclass(frozen=True)
class Difference:
    """The points of ``whole`` that are not inside ``hole``."""

    whole: Rectangle
    hole: Disk

    def excess(self, x: np.ndarray) -> np.ndarray:
        """Distance by which points lie outside ``whole`` or inside ``hole``, ``[n]``."""
        return np.maximum(self.whole.excess(x), -self.hole.excess(x))


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
    loss_weights: Mapping[str, float] | None = None
    envelope: Envelope | None = None
    center: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Problem:
    """A partial differential equation with its conditions, network and reference.

    Args:
        name: name for the command line, the module's own.
        inputs: input names of one letter, for example ``("x", "y")``.
        outputs: output names without underscore, for example ``("u", "v", "p")``.
        domain: a region made of ``Rectangle``, ``Disk`` and their difference.
        pde: function of a ``Field`` that gives the residuals of the equation by name.
        conditions: named sets of conditions; the first is the default.
        layers, activation, scale: the multilayer perceptron and its input scaling.
        envelope: factor of the outputs, for conditions that hold exactly.
        center: point through which the zero lines of the first layer's units go at the beginning
            of training; None is the origin.
        num_domain, num_boundary: numbers of training points.
        loss_weights: c_k of the loss ``sum_k c_k mean r_k^2`` by name of the term; others are 1.
        quantities: derived quantities by name, functions of a ``Field``.
        variants: by name; the first is the problem as it is.
        reference: file of the reference solution, if there is one.
        measures: numbers by name that one asks of a solution, such as forces, from its fields.
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
    layers: tuple[int, ...]
    activation: str
    scale: tuple[float, ...]
    num_domain: int
    num_boundary: int
    loss_weights: Mapping[str, float] = field(default_factory=dict)
    envelope: Envelope | None = None
    center: tuple[float, ...] | None = None
    quantities: Mapping[str, FieldFunction] = field(default_factory=dict)
    variants: Mapping[str, Variant] = field(default_factory=lambda: {"good": Variant()})
    reference: Path | None = None
    measures: Callable[[Evaluate], Mapping[str, float]] | None = None
    benchmark: Mapping[str, float] = field(default_factory=dict)

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
        if min(self.num_domain, self.num_boundary) < 0:
            raise ValueError("numbers of points must not be negative")
        if any(not weight > 0 for weight in self.loss_weights.values()):
            raise ValueError(f"loss weights must be positive, found {dict(self.loss_weights)}")

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
