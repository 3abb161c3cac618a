"""Predictions against a reference solution: matching of points, errors, their table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree

from pinnfluence.field.field import Field, derivatives_used
from pinnfluence.problem.problem import Problem
from pinnfluence.problem.reference import Reference
from pinnfluence.runtime.devices import float64_array, tensor_like

BATCH_SIZE = 4096

TOLERANCE = 1e-6
"""Largest distance at which two points count as the same; float32 coordinates round by 1e-7."""


@dataclass(frozen=True)
class ErrorRow:
    """Relative L2 errors of one field of one model, see ``relative_l2``; 1 means 100 percent."""

    model: str
    quantity: str
    mean: float
    area_weighted: float
    n_points: int


def match_points(points: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """For each point ``[n, 2]`` the index ``[n]`` of the same point in ``reference`` ``[m, 2]``.

    Raises:
        ValueError: some points lie farther than ``TOLERANCE`` from every reference point.
    """
    distance, index = cKDTree(np.asarray(reference, np.float64)).query(
        np.asarray(points, np.float64)
    )
    far = np.flatnonzero(distance > TOLERANCE)
    if far.size:
        raise ValueError(
            f"{far.size} of {len(points)} test points are not points of the reference solution, "
            f"the first is {points[far[0]].tolist()}; compute the scores at its points"
        )
    return index


def with_quantities(
    problem: Problem, points: np.ndarray, fields: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The outputs, and the derived quantities that are functions of them, each float64 ``[n]``.

    A quantity that needs derivatives cannot be computed from values and is left out.

    Args:
        problem: names the outputs and defines the quantities, for example the speed ``|u|``.
        points: ``[n, n_inputs]``.
        fields: values of all outputs at the points, by name, each ``[n]``.
    """
    x = torch.as_tensor(np.asarray(points, np.float64))
    columns = {name: np.asarray(fields[name], np.float64).reshape(-1) for name in problem.outputs}
    outputs = torch.as_tensor(np.stack(list(columns.values()), axis=1))
    field = Field(problem.inputs, problem.outputs, x, {(): outputs})
    for name, function in problem.quantities.items():
        if derivatives_used([function], problem.inputs, problem.outputs, x) == [()]:
            columns[name] = function(field).cpu().numpy()
    return columns


def absolute_errors(
    predicted: Mapping[str, np.ndarray], target: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """``|predicted - target|`` of each field of ``target``, ``[n]``.

    For a derived quantity such as the speed that is the difference of two speeds; the paper's code
    drew the difference of their squares.
    """
    return {name: np.abs(predicted[name] - target[name]) for name in target}


def relative_l2(
    predicted: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """``sqrt(sum_i w_i (predicted_i - target_i)^2 / sum_i w_i target_i^2)``.

    Without ``weights`` every point counts the same; with areas this is the quotient of two
    integrals over the domain.
    """
    weights = np.ones(len(target)) if weights is None else np.asarray(weights, np.float64)
    return float(np.sqrt(weights @ (predicted - target) ** 2 / (weights @ target**2)))


def error_rows(
    predicted: Mapping[str, np.ndarray],
    target: Mapping[str, np.ndarray],
    area: np.ndarray,
    model: str,
) -> list[ErrorRow]:
    """Relative L2 errors of one model, a row for each field of ``target``; ``area`` is ``[n]``."""
    return [
        ErrorRow(
            model,
            name,
            relative_l2(predicted[name], target[name]),
            relative_l2(predicted[name], target[name], area),
            len(area),
        )
        for name in target
    ]


def relative_errors(
    net: torch.nn.Module, outputs: Sequence[str], reference: Reference
) -> dict[str, float]:
    """Relative L2 errors of a network's outputs against the reference, weighted by area."""
    values = predict(net, reference.points, outputs)
    return {
        name: relative_l2(values[name], target.astype(np.float64), reference.area)
        for name, target in reference.values.items()
    }


def predict(
    net: torch.nn.Module, points: np.ndarray, names: Sequence[str]
) -> dict[str, np.ndarray]:
    """Outputs of a network at points ``[n, n_inputs]``, by name, float64 ``[n]``."""
    like = next(net.parameters())
    parts = []
    for start in range(0, len(points), BATCH_SIZE):
        x = tensor_like(points[start : start + BATCH_SIZE], like)
        with torch.no_grad():
            parts.append(float64_array(net(x)))
    return dict(zip(names, np.concatenate(parts).T, strict=True))
