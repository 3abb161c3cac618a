"""An equation of a PINN: residuals that training drives to zero, and where they act."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from pinnfluence.field.field import Declared, Field, derivatives_used
from pinnfluence.field.network import MultiIndex

PointFunction = Callable[[np.ndarray], np.ndarray]
"""From points ``[n, d]`` as stored to a mask ``[n]``, numbers ``[n, n_data]`` or points."""

Group = Literal["pde", "boundary", "initial", "data"]
GROUPS: tuple[str, ...] = get_args(Group)
"""What a loss term stands for: the PDE, boundary or initial conditions, or measured data."""


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
        group: one of ``GROUPS``; None means ``boundary`` with ``on``, else ``pde``.

    Raises:
        ValueError: another group.

    >>> Equation(lambda f: {"wall": f.u}, lambda x: x[:, 0] == 0).group
    'boundary'
    """

    residuals: Callable[[Field], dict[str, Tensor]]
    on: PointFunction | None = None
    data: PointFunction | None = None
    image: PointFunction | None = None
    group: Group | None = None

    def __post_init__(self) -> None:
        if self.group is None:
            object.__setattr__(self, "group", "pde" if self.on is None else "boundary")
        if self.group not in GROUPS:
            raise ValueError(
                f"unknown group {self.group!r} of an equation, expected one of {', '.join(GROUPS)}"
            )

    def probed(
        self, inputs: Sequence[str], outputs: Sequence[str], like: Tensor
    ) -> tuple[tuple[str, ...], list[MultiIndex]]:
        """Names of its loss terms and the derivatives that it uses, in dtype and place of ``like``.

        A function that does not declare them is called once, at the origin.

        Raises:
            ValueError: data that are no numbers ``[n, n_data]``.
        """
        names: list[str] = []

        def residuals(f: Field) -> None:
            names.extend(self.residuals(f))

        probe = like.new_zeros(1, len(inputs))
        function = residuals
        if isinstance(self.residuals, Declared):
            names.extend(self.residuals.names)
            function = self.residuals  # type: ignore[assignment]
        used = derivatives_used(
            [function], inputs, outputs, probe, self._probe_data(probe), self.image is not None
        )
        return tuple(names), used

    def _probe_data(self, probe: Tensor) -> Tensor | None:
        """Made-up data with as many columns as the real ones."""
        if self.data is None or isinstance(self.residuals, Declared):
            return None
        return torch.ones_like(probe[:, :1]).expand(1, _n_columns(self.data, probe.shape[1]))


def at_points(function: PointFunction | None, x: np.ndarray) -> np.ndarray | None:
    """What a function of the user's gives at points: at no points many cannot be called."""
    return None if function is None or len(x) == 0 else function(x)


def nowhere_else(x: np.ndarray) -> np.ndarray:
    """For ``on``: the equation acts at the points that it came with, at none of others."""
    return np.zeros(len(x), bool)


@lru_cache(maxsize=128)
def _n_columns(data: Callable[[np.ndarray], np.ndarray], n_inputs: int) -> int:
    """Number of columns of the data of an equation, which is evaluated at the origin."""
    with np.errstate(all="ignore"):  # the origin may be no point of the equation
        found = np.asarray(data(np.zeros((1, n_inputs), np.float32)))
    if found.ndim != 2 or len(found) != 1:
        raise ValueError(
            "expected data of shape [n, n_data] of an equation at n points, found shape "
            f"{found.shape} at one point"
        )
    return found.shape[1]
