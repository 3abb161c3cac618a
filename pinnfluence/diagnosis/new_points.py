"""Where a new point would help: by how much the estimated squared error would fall."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial import cKDTree

from pinnfluence.curvature.inverse import Solve
from pinnfluence.diagnosis.quantities import Quantities, changes, evaluate, quantities_of
from pinnfluence.errors import InputError
from pinnfluence.influence.candidates import Candidates
from pinnfluence.influence.quantity import Quantity, check_quantity, quantity_gradients
from pinnfluence.influence.target import Target
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import Collocation, Pinn
from pinnfluence.runtime.executor import BATCH_SIZE, Executor
from pinnfluence.storage.point_checks import check_points

if TYPE_CHECKING:
    from pinnfluence.diagnosis.findings import Findings

N_CANDIDATES = 500
"""Fresh points of which a report says how much each would help."""

NEIGHBOURS = 4
"""Candidates from which a map is made at each point."""

N_NAMED = 5
"""Places for a new point that the figures name."""

APART = 0.03
"""Distance of places that are named, as a part of the domain's size."""

N_PLACES = 300
"""Points at which the error is to fall; its gradients there are held."""


def squared_error(
    pinn: Pinn,
    step: np.ndarray,
    quantities: Quantities,
    x: np.ndarray,
    weights: np.ndarray | None = None,
) -> Target:
    """The estimated squared error of quantities, as a target of points to be added.

    With the step d of the estimate (see ``error_estimate``) and the numbers f of the network the
    estimated error of ``f(x_i)`` is ``grad f . d``; adding points moves the parameters by delta and
    leaves ``grad f . (d - delta)``. So the numbers of the target are -errors, their gradients those
    of f, and their squares

        sum_i (grad f(x_i) . (d - delta))^2.

    Args:
        step: d, ``[n_params]``.
        x: ``[n, n_inputs]``.
        weights: ``[n]``; given, the error is that of the number ``sum_i weights_i f(x_i)``.
    """
    gradients, values = [], []
    for name, error in changes(pinn, step, x, quantities).items():
        rows = quantity_gradients(pinn, x, quantities[name], weights, BATCH_SIZE)
        gradients.append(np.concatenate(list(rows)))
        values.append(-error if weights is None else np.array([-weights @ error]))
    return Target(np.concatenate(gradients), np.concatenate(values))


def relative_error(pinn: Pinn, step: np.ndarray, quantities: Quantities, x: np.ndarray) -> Target:
    """The sum of the squared relative errors of quantities; see ``squared_error``.

    Each is the error's norm over that of the corrected quantity, at some of the points x.
    """
    chosen = some(len(x), N_PLACES)
    there, parts = x[chosen], []
    corrected = changes(pinn, step, there, quantities)
    for name, value in evaluate(pinn, there, quantities).items():
        size = max(float(np.linalg.norm(value + corrected[name])), 1e-300)
        target = squared_error(pinn, step, {name: quantities[name]}, there)
        assert target.values is not None
        parts.append((target.gradients / size, target.values / size))
    gradients, values = zip(*parts, strict=True)
    return Target(np.concatenate(gradients), np.concatenate(values))


def decreases(where: Collocation, training: Loss, solve: Solve, target: Target) -> np.ndarray:
    """Part of a sum of squares that adding each point alone would take away, ``[n]``.

    Below 0 where the point would raise it.

    Args:
        where: the candidates. training: whose weights they get. solve: product with the inverse of
        the training's curvature.
    """
    found = Candidates(Loss(where, training.weights), solve, target, Executor())
    assert target.values is not None
    parts: np.ndarray = -found.changes / max(float(target.values @ target.values), 1e-300)
    return parts


def target_of(
    report: Findings,
    quantity: Quantity | None,
    at: np.ndarray | None,
    weights: np.ndarray | None,
) -> Target:
    """See ``Report.target``."""
    pinn, step = report.pinn, report.estimate.best.step
    if quantity is None:
        if at is not None or weights is not None:
            raise InputError("expected a quantity beside at= and weights=, found none")
        return relative_error(pinn, step, report.quantities, report.x)
    if at is None:
        raise InputError("expected the points at which the error is asked for: give at=")
    at = np.asarray(at)
    check_points(at, len(pinn.inputs), "given")
    name = quantity if isinstance(quantity, str) else "the number"
    functions = quantities_of(pinn, {name: quantity}, at)
    check_quantity(pinn, at, functions[name], weights)
    return squared_error(pinn, step, functions, at, weights)


def named(report: Findings) -> list[dict[str, Any]]:
    """The places where a new point would help most, for JSON."""
    return [
        {
            "place": report.candidates[i].tolist(),
            "part_of_squared_error": float(report.helping[i]),
        }
        for i in largest_apart(report.candidates, report.helping, N_NAMED)
    ]


def largest_apart(x: np.ndarray, values: np.ndarray, n: int) -> list[int]:
    """Indices of the points with the largest values, apart from each other."""
    size = np.maximum(np.ptp(x, axis=0), 1e-300)
    chosen: list[int] = []
    for i in np.argsort(-values):
        if all(np.linalg.norm((x[i] - x[j]) / size) >= APART for j in chosen):
            chosen.append(int(i))
        if len(chosen) == n:
            break
    return chosen


def around(points: np.ndarray, candidates: np.ndarray, helping: np.ndarray) -> np.ndarray:
    """How much a new point near each of some points would help, 0 to 1, for a map, ``[n]``.

    Means over the nearest candidates, weighted by the inverse of their distance; 0 where a point
    would raise the error.

    Args:
        points: ``[n, n_inputs]``. candidates, helping: see ``Findings``.
    """
    low, size = candidates.min(0), np.maximum(np.ptp(candidates, axis=0), 1e-300)
    tree = cKDTree((candidates - low) / size)
    n = min(NEIGHBOURS, len(candidates))
    distance, nearest = (a.reshape(len(points), n) for a in tree.query((points - low) / size, n))
    weights = 1 / np.maximum(distance, 1e-9)
    found: np.ndarray = (weights * np.clip(helping[nearest], 0, 1)).sum(1) / weights.sum(1)
    return found


def some(n: int, most: int) -> np.ndarray:
    """Numbers of at most so many of n points, by chance, rising."""
    return np.sort(np.random.default_rng(0).permutation(n)[:most])
