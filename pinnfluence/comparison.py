"""Predictions against a reference solution: matching of points, errors, their table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree

from pinnfluence.reference import Reference

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


def match_points(
    points: np.ndarray, reference: np.ndarray, tolerance: float = TOLERANCE
) -> np.ndarray:
    """For each point ``[n, 2]`` the index ``[n]`` of the same point in ``reference`` ``[m, 2]``.

    Raises:
        ValueError: some points lie farther than ``tolerance`` from every reference point.
    """
    distance, index = cKDTree(np.asarray(reference, np.float64)).query(
        np.asarray(points, np.float64)
    )
    far = np.flatnonzero(distance > tolerance)
    if far.size:
        raise ValueError(
            f"{far.size} of {len(points)} test points are not points of the reference solution, "
            f"the first is {points[far[0]].tolist()}; compute the scores at its points"
        )
    return index


def with_speed(fields: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The fields u, v, p and ``speed = sqrt(u^2 + v^2)``, each float64 ``[n]``."""
    flow = {name: np.asarray(fields[name], np.float64).reshape(-1) for name in ("u", "v", "p")}
    return flow | {"speed": np.hypot(flow["u"], flow["v"])}


def absolute_errors(
    predicted: Mapping[str, np.ndarray], target: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """``|predicted - target|`` of each field of ``target``, ``[n]``.

    For the speed that is the difference of two speeds; the paper's code drew the difference of
    their squares.
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
    quantities: Sequence[str] = ("u", "v", "p", "speed"),
) -> list[ErrorRow]:
    """Relative L2 errors of one model, a row for each field; ``area`` is ``[n]`` in m^2."""
    return [
        ErrorRow(
            model,
            name,
            relative_l2(predicted[name], target[name]),
            relative_l2(predicted[name], target[name], area),
            len(area),
        )
        for name in quantities
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
) -> Mapping[str, np.ndarray]:
    """Outputs of a network at points, by name."""
    like = next(net.parameters())
    with torch.no_grad():
        values = net(torch.as_tensor(points).to(like)).double().cpu().numpy()
    return dict(zip(names, values.T, strict=True))
