"""Influence of the training points on one quantity, exactly, by loss term and by group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from pinnfluence.curvature.factorisations import Solve
from pinnfluence.errors import InputError
from pinnfluence.field.field import FieldFunction
from pinnfluence.influence.gradient_rows import TrainingGradients
from pinnfluence.influence.pointwise import check_pointwise
from pinnfluence.loss.collocation import Collocation, Pinn
from pinnfluence.loss.gradients import jacobian, point_loss_rows
from pinnfluence.problem.equation import Equation
from pinnfluence.runtime.devices import float64_array

BLOCK = 1000
"""Rows of gradients ``[n, n_params]`` that are held at a time."""


class QuantityScores:
    """Influence ``Inf(f(x_i); z_j)`` of all training points on a quantity f, ``[n_test, n_train]``.

    In the removal scale, ``Inf ~ f(theta without z_j) - f(theta)``: positive means that removing
    the training point raises f. An array for NumPy; ``scores[i]`` are the scores at a test point.

    Args:
        parts: by loss term of the training points, scores ``[n_test, n_k]`` where it acts.
        rows: by loss term, indices ``[n_k]`` of the points on which it acts.
        train_x: training points ``[n_train, n_inputs]``.
    """

    def __init__(
        self,
        parts: Mapping[str, np.ndarray],
        rows: Mapping[str, np.ndarray],
        train_x: np.ndarray,
    ) -> None:
        self._parts, self._rows, self.train_x = dict(parts), dict(rows), train_x
        self.values = np.zeros((len(next(iter(parts.values()))), len(train_x)))
        for term in self._parts:
            self.values[:, self._rows[term]] += self._parts[term]
        self.shape = self.values.shape

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.values, dtype=dtype)

    def __getitem__(self, key: Any) -> Any:
        return self.values[key]

    def __len__(self) -> int:
        return len(self.values)

    def by_term(self) -> dict[str, np.ndarray]:
        """Scores ``[n_test, n_train]`` by loss term of the training points; they sum to the whole.

        What removing the point from that term alone would do; zero where the term does not act.
        Under a recipe with leverage, which ties the terms of a point together: the term's part of
        removing the point from all.
        """
        found = {}
        for term, part in self._parts.items():
            found[term] = np.zeros(self.shape)
            found[term][:, self._rows[term]] = part
        return found

    def top(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k training points of largest ``|Inf|`` at each test point, the largest first.

        Returns:
            Their indices and their scores, both ``[n_test, k]``.

        Raises:
            InputError: k below 1 or above the number of training points.
        """
        if not 1 <= k <= self.shape[1]:
            raise InputError(f"expected k from 1 to {self.shape[1]} training points, found {k}")
        order = np.argsort(-np.abs(self.values), axis=1, kind="stable")[:, :k]
        return order, np.take_along_axis(self.values, order, axis=1)

    def group(self, points: Sequence[int] | np.ndarray) -> np.ndarray:
        """Influence of removing several training points together, ``[n_test]``.

        To first order the sum of their scores: curvature is that of all points, under a recipe
        with leverage that without the one point, never that without the group. So it is good for
        groups that are a small part of them.

        Args:
            points: indices of training points, or a mask ``[n_train]``.

        Raises:
            InputError: indices out of range, or one that is given twice.
        """
        chosen = np.asarray(points)
        n_train = self.shape[1]
        if chosen.dtype == bool and chosen.shape == (n_train,):
            chosen = np.flatnonzero(chosen)
        whole = chosen.dtype.kind in "iu" or chosen.size == 0
        if not whole or chosen.ndim != 1 or len(np.unique(chosen)) < len(chosen):
            raise InputError("expected different indices of training points, or a mask of all")
        if chosen.size and not 0 <= chosen.min() <= chosen.max() < n_train:
            raise InputError(
                f"expected indices from 0 to {n_train - 1}, found {chosen.min()} to {chosen.max()}"
            )
        return self.values[:, chosen.astype(int)].sum(1)


def check_quantity(
    pinn: Pinn,
    test_x: np.ndarray,
    quantity: str | FieldFunction,
    weights: np.ndarray | None = None,
) -> None:
    """Refuse what ``quantity_scores`` cannot treat rightly, before anything is computed.

    Raises:
        InputError: no such quantity, weights that do not fit, or see ``check_pointwise``.
    """
    if weights is not None and np.shape(weights) != (len(test_x),):
        raise InputError(f"expected {len(test_x)} weights, found shape {np.shape(weights)}")
    if weights is not None and not np.isfinite(weights).all():
        raise InputError("expected finite weights, found NaN or infinity")
    if callable(quantity):
        check_pointwise(pinn, quantity, test_x, "the quantity")
    elif quantity in pinn.quantities:
        check_pointwise(pinn, pinn.quantities[quantity], test_x, f"the quantity {quantity}")
    elif quantity not in (*pinn.outputs, *pinn.terms, *pinn.groups):
        known = ", ".join([*pinn.outputs, *pinn.quantities, *pinn.terms, *pinn.groups])
        raise InputError(
            f"no quantity {quantity!r}, expected one of {known}, or a function of a field"
        )


def quantity_scores(
    pinn: Pinn,
    solve: Solve,
    train: TrainingGradients,
    test_x: np.ndarray,
    quantity: str | FieldFunction,
    weights: np.ndarray | None = None,
) -> QuantityScores:
    """Scores ``grad f(x)^T (M + damping I)^-1 grad l_i`` of one quantity at all test points.

    Args:
        pinn: the network and its equations.
        solve: product with the inverse curvature.
        train: gradients of the losses of the training points.
        test_x: test points ``[n_test, n_inputs]``.
        quantity: an output, a derived quantity, a loss term (its square, where it acts), ``pde``,
            ``bcs`` or ``all``; or a function of the field, such as ``lambda f: f.v_x - f.u_y``.
        weights: ``[n_test]``; given, the quantity is ``sum_i weights_i f(x_i)`` and has one row:
            an integral, with the weights of a quadrature.

    The quantity and the weights are taken as they are: see ``check_quantity``.
    """
    blocks = _gradients(pinn, test_x, quantity, train.batch_size)
    if weights is not None:
        total, start = 0.0, 0
        for block in blocks:
            total = total + weights[start : start + len(block)] @ block
            start += len(block)
        blocks = iter([np.atleast_2d(total)])
    found = np.hstack([train.times(solve(block.T)) for block in blocks])
    parts = {term: found[rows].T for term, rows in train.slices.items()}
    return QuantityScores(parts, train.points, train.collocation.x)


def self_influence(solve: Solve, train: TrainingGradients) -> np.ndarray:
    """``Inf(l_i; z_i) = grad l_i^T (M + damping I)^-1 grad l_i`` of each training point, ``[n]``.

    How much the loss of a point grows when it is removed; l_i is the sum of its weighted terms.
    """
    found = []
    for chunk in train.collocation.chunks(BLOCK):
        block = _loss_gradients(chunk, train.weights, train.batch_size)
        found.append((block * solve(block.T).T).sum(1))
    return np.concatenate(found)


def _gradients(
    pinn: Pinn, x: np.ndarray, quantity: str | FieldFunction, batch_size: int
) -> Iterable[np.ndarray]:
    """Gradients ``[n, n_params]`` of a quantity, some points at a time."""
    if not callable(quantity) and quantity in (*pinn.terms, *pinn.groups):
        terms = pinn.groups.get(quantity, [quantity])
        weights = {name: float(name in terms) for name in pinn.terms}
        for chunk in pinn.at(x).chunks(BLOCK):
            yield _loss_gradients(chunk, weights, batch_size)
        return
    equation = Equation(_one(pinn, quantity))
    for chunk in pinn.at(x, [equation]).chunks(BLOCK):
        parts = [float64_array(jacobian(part)["value"][1]) for part in chunk.chunks(batch_size)]
        yield np.concatenate(parts)


def _one(pinn: Pinn, quantity: str | FieldFunction) -> FieldFunction:
    """A quantity as the only value of an equation."""
    if callable(quantity):
        return lambda f: {"value": quantity(f)}
    if quantity in pinn.quantities:
        return lambda f: {"value": pinn.quantities[quantity](f)}
    return lambda f: {"value": getattr(f, quantity)}


def _loss_gradients(
    places: Collocation, weights: Mapping[str, float], batch_size: int
) -> np.ndarray:
    """The same of the loss of each point, ``sum_k w_k r_k^2``."""
    parts = [point_loss_rows(part, weights) for part in places.chunks(batch_size)]
    return float64_array(torch.cat(parts))
