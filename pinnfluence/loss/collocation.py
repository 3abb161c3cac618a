"""Equations at collocation points: their residuals as functions of the parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pinnfluence.field.field import Declared, Field, evaluate
from pinnfluence.field.network import MLP, Tape
from pinnfluence.loss.points import PointSet
from pinnfluence.problem.equation import Equation
from pinnfluence.runtime.devices import tensor_like

if TYPE_CHECKING:
    from pinnfluence.loss.pinn import Pinn

Params = Mapping[str, Tensor]


@dataclass(frozen=True)
class PointTensors:
    """A ``PointSet`` on a device: points followed by images, rows and data of each equation."""

    x: Tensor
    rows: tuple[Tensor, ...]
    data: tuple[Tensor | None, ...]


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
    def n_residuals(self) -> int:
        """Number of residuals: the sum of |S_k| over the terms."""
        pairs = zip(self.names, self.points.rows, strict=True)
        return sum(len(names) * len(rows) for names, rows in pairs)

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
            given = at.data[number]
            if given is not None:
                here.data = given
            residuals |= self.equations[number].residuals(here)
        return residuals

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
