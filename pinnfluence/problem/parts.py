"""What belongs to a problem beside its equations: points, network, schedule, drawing.

This module imports no PyTorch, so that a script can show its defaults at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pinnfluence.field.envelope import Envelope

NUMBERS = ("num_domain", "num_boundary", "num_initial")
DISTRIBUTIONS = ("uniform", "pseudo", "LHS", "Halton", "Hammersley", "Sobol")
DTYPES = ("float32", "float64")
MAX_WIDTH, MAX_POINTS = 10**6, 10**9


@dataclass(frozen=True)
class Sampling:
    """The training points.

    num_domain, num_boundary, num_initial: how many lie inside, on the boundary of space, and at the
        initial time.
    distribution: one of DeepXDE's, see ``DISTRIBUTIONS``.
    anchors: points that are trained on besides, ``[n, n_inputs]``.

    Raises:
        ValueError: negative numbers, no points at all, or another distribution.
    """

    num_domain: int
    num_boundary: int
    num_initial: int = 0
    distribution: str = "Hammersley"
    anchors: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        for name, n in self.numbers.items():
            if not 0 <= n <= MAX_POINTS:
                raise ValueError(f"{name} must be from 0 to {MAX_POINTS}, found {n}")
        if not any(self.numbers.values()):
            raise ValueError("the numbers of points are 0; expected at least one point")
        if self.distribution not in DISTRIBUTIONS:
            raise ValueError(
                f"unknown distribution {self.distribution!r} of points, expected one of "
                + ", ".join(DISTRIBUTIONS)
            )

    @property
    def numbers(self) -> dict[str, int]:
        """The three numbers of points by name."""
        return {name: getattr(self, name) for name in NUMBERS}


@dataclass(frozen=True)
class Network:
    """The multilayer perceptron, see ``MLP``.

    layers, activation, scale: its widths, activation and length by which each input is divided.
    envelope: factor of the outputs, for conditions that hold exactly.
    center: point through which the zero lines of the first layer's units go at the beginning of
        training; None is the origin.

    Raises:
        ValueError: widths or lengths that are not positive.
    """

    layers: tuple[int, ...]
    activation: str
    scale: tuple[float, ...]
    envelope: Envelope | None = None
    center: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        widths = " ".join(map(str, self.layers))
        if len(self.layers) < 2 or not all(1 <= width <= MAX_WIDTH for width in self.layers):
            raise ValueError(
                f"layers must be at least two, with widths from 1 to {MAX_WIDTH}, found {widths}"
            )
        if not all(0 < length < math.inf for length in self.scale):
            raise ValueError(f"scale must be positive lengths, found {self.scale}")


@dataclass(frozen=True)
class Schedule:
    """How a network is trained; the default is the paper's way.

    iterations: most iterations of each phase by its name, see ``pinnfluence.training.optimizers``;
        phases without any are left out.
    lr: learning rate of first-order methods. dtype: of parameters and points.

    Raises:
        ValueError: negative numbers, a learning rate that is not positive, or another dtype.
    """

    iterations: Mapping[str, int] = field(
        default_factory=lambda: {"adam": 100_000, "lbfgs": 25_000}
    )
    lr: float = 1e-3
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name, n in self.iterations.items():
            if n < 0:
                raise ValueError(f"iterations of {name} must not be negative, found {n}")
        if not 0 < self.lr < math.inf:
            raise ValueError(f"the learning rate must be positive, found {self.lr}")
        if self.dtype not in DTYPES:
            raise ValueError(f"unknown dtype {self.dtype!r}, expected one of {', '.join(DTYPES)}")


@dataclass(frozen=True)
class Drawing:
    """How figures call and colour inputs and fields.

    symbols: symbol and unit by name of an input, output or derived quantity, for example
        ``("$p$", "Pa")``; outputs and quantities in the order in which figures show them.
    signed: fields drawn in diverging colours, centred at zero.
    """

    symbols: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    signed: tuple[str, ...] = ()


Changes = Mapping[str, object]
"""What a variant changes, by the names of the fields of a problem and of its parts."""
