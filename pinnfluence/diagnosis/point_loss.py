"""The loss at any points as a vector of residuals with a Jacobian."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree

from pinnfluence.curvature.lanczos import Advance
from pinnfluence.diagnosis.corrected import corrected, is_correctable
from pinnfluence.loss.differentiators import jacobian
from pinnfluence.loss.pinn import Collocation, Pinn
from pinnfluence.runtime.devices import float64_array
from pinnfluence.runtime.executor import BATCH_SIZE

NEIGHBOURS = 8
STEP = 1e-6
"""Part of a step by which the parameters move in a difference quotient."""

SMALLEST = 1e-6
"""Residuals below this part of the largest count as that, see ``PointLoss.balanced``."""


@dataclass(frozen=True)
class PointLoss:
    """``L = sum_k sum_{i in S_k} w_ik r_k(z_i)^2`` with weights of single points.

    With ``s = (2 w)^1/2 r`` it is ``|s|^2 / 2``, its gradient ``A^T s`` and its Gauss-Newton matrix
    ``A^T A``, A the Jacobian of s. Rows are in the order of the loss terms, then of the points.

    collocation: the loss terms at the points. weights: w_ik by term, ``[n_k]``.
    """

    collocation: Collocation
    weights: Mapping[str, np.ndarray]

    @cached_property
    def slices(self) -> dict[str, slice]:
        """The rows of each loss term."""
        return self.collocation.slices()

    @property
    def n_rows(self) -> int:
        """Number of residuals."""
        return self.collocation.n_residuals

    @property
    def points(self) -> np.ndarray:
        """The point of each row, ``[n_rows]``."""
        return np.concatenate([np.zeros(0, int), *self.collocation.term_rows().values()])

    def residuals(self) -> np.ndarray:
        """s, ``[n_rows]``."""
        parts = [np.zeros(0)]
        for one in self.collocation.singles():
            for name, r in one.evaluate(8 * BATCH_SIZE).items():  # no gradients to keep
                parts.append(np.sqrt(2 * self.weights[name]) * r)
        return np.concatenate(parts)

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """A, block by block: the rows of a block, and these rows ``[n, n_params]``."""
        for one in self.collocation.singles():
            for start, chunk in zip(itertools.count(0, BATCH_SIZE), one.chunks(BATCH_SIZE)):
                for name, (_, gradients) in jacobian(chunk).items():
                    scale = np.sqrt(2 * self.weights[name][start : start + len(gradients)])
                    first = self.slices[name].start + start
                    rows = slice(first, first + len(gradients))
                    yield rows, scale[:, None] * float64_array(gradients)

    def jacobian(self, advance: Advance = lambda n: None) -> np.ndarray:
        """A, ``[n_rows, n_params]``."""
        A = np.empty((self.n_rows, self.collocation.pinn.n_params))
        for rows, block in self.blocks():
            A[rows] = block
            advance(len(block))
        return A

    def point_losses(self) -> np.ndarray:
        """``l_i = sum_k w_ik r_k(z_i)^2``, ``[n]``."""
        losses = np.zeros(len(self.collocation.x))
        np.add.at(losses, self.points, 0.5 * self.residuals() ** 2)
        return losses

    def term_losses(self) -> dict[str, float]:
        """``sum_i w_ik r_k(z_i)^2`` by name."""
        squares = 0.5 * self.residuals() ** 2
        return {name: float(squares[rows].sum()) for name, rows in self.slices.items()}

    def balanced(self) -> PointLoss:
        """The same loss with each weight divided by the residuals around its point.

        ``w_ik / rms_i``, the root mean square over the nearest points of the residuals that act
        there, weighted with c_k. What no step removes of a residual grows with it; a fit that
        counts all of them alike would buy the last percent where they are large with errors as
        large as the whole where they are small.
        """
        x = self.collocation.x
        size = np.ptp(x, axis=0)
        scaled = (x - x.min(0)) / np.where(size > 0, size, 1)
        nearest = cKDTree(scaled).query(scaled, min(NEIGHBOURS, len(x)))[1].reshape(len(x), -1)
        raw = self.unweighted().point_losses()
        around = np.sqrt(raw[nearest].mean(1))
        around += SMALLEST * around.max()
        if not around.max() > 0:
            return self
        rows = self.collocation.term_rows()
        return replace(self, weights={n: w / around[rows[n]] for n, w in self.weights.items()})

    def unweighted(self) -> PointLoss:
        """The same loss with the weights c_k alone."""
        given = self.collocation.pinn.loss_weights
        weights = {n: np.full(len(w), given.get(n, 1.0)) for n, w in self.weights.items()}
        return replace(self, weights=weights)

    def total(self) -> float:
        """L."""
        s = self.residuals()
        return float(0.5 * (s @ s))

    def after(self, d: np.ndarray) -> np.ndarray:
        """s of the fields corrected by a step d of the parameters, ``[n_rows]``.

        The equations' own residuals of ``u + grad u . d``. Residual functions that call the network
        themselves cannot be given a corrected one: of these it is ``s + A d``.
        """
        if is_correctable(self.collocation.pinn):
            return self.of(corrected(self.collocation.pinn, d)).residuals()
        s = self.residuals()
        for rows, block in self.blocks():
            s[rows] += block @ d
        return s

    def slopes(self, d: np.ndarray, s: np.ndarray) -> np.ndarray:
        """``A d`` by a difference quotient, ``[n_rows]``; s: the residuals, known already."""
        quotient: np.ndarray = (self.after(STEP * d) - s) / STEP
        return quotient

    def of(self, pinn: Pinn) -> PointLoss:
        """The same points, equations and weights with another network."""
        return replace(self, collocation=replace(self.collocation, pinn=pinn))
