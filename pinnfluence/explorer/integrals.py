"""Integrals of the fields, such as drag, as sums over the test points of a score file.

The influence on an integral J follows from grad J. A score file has the embeddings of outputs at
its test points, so what is wanted are weights with ``grad J ~ sum_i,o w_io grad f_o(x_i)``: each
value and first derivative that J takes at one of its places is that of a local fit, weights of the
nearest test points. Both sides are computed from the network, and their difference is stated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree

from pinnfluence.diagnosis.quantities import evaluate, quantities_of, sum_gradients
from pinnfluence.loss.pinn import Pinn
from pinnfluence.problem.forces import Integral
from pinnfluence.scores.embedding import Embedding

DEGREE = 3
NEIGHBOURS = 30
"""Points of a local fit by polynomials of that degree, which have 10 coefficients in a plane."""

LARGEST_ERROR = 0.02
"""An integral whose gradient is farther off, in norm, is left out."""

Weights = dict[str, np.ndarray]
"""By output, ``[n_test]``."""


@dataclass(frozen=True)
class IntegralEmbedding:
    """What the page needs of an integral: its embedding ``[rank]``, and its value.

    error: ``|g - grad J| / |grad J|`` with g the sum over test points.
    """

    embedding: np.ndarray
    value: float
    error: float


def embed_integrals(
    pinn: Pinn, integrals: Mapping[str, Integral], test: Mapping[str, Embedding], x: np.ndarray
) -> dict[str, IntegralEmbedding]:
    """The integrals that test points ``[n_test, 2]`` resolve, by name.

    Args:
        pinn: the network. integrals: of its fields. test: embeddings of its outputs at x.
    """
    points = np.asarray(x, np.float64)
    if points.shape[1] != 2 or len(points) < NEIGHBOURS:
        return {}
    if any(o not in test or len(test[o].rows) < len(points) for o in pinn.outputs):
        return {}
    embedded = {}
    for name, integral in integrals.items():
        weights = _weights(pinn, integral, points)
        used = np.flatnonzero(np.any([w != 0 for w in weights.values()], axis=0))
        error = _error(pinn, integral, points[used], {o: w[used] for o, w in weights.items()})
        if error > LARGEST_ERROR:
            continue
        total = sum(w[used] @ test[o].values[used].astype(np.float64) for o, w in weights.items())
        values = evaluate(pinn, integral.x, {name: integral.function})[name]
        embedding = np.asarray(total, np.float32)[None]
        embedded[name] = IntegralEmbedding(embedding, float(integral.weights @ values), error)
    return embedded


def _weights(pinn: Pinn, integral: Integral, points: np.ndarray) -> Weights:
    """The weight of each output at each test point."""
    near = cKDTree(points).query(integral.x, NEIGHBOURS)[1]
    fits = _local_fits(points[near], integral.x)
    weights = {output: np.zeros(len(points)) for output in pinn.outputs}
    for name, slope in _slopes(pinn, integral).items():
        output, _, axis = name.partition("_")
        derivative = fits[:, 0 if not axis else 1 + pinn.inputs.index(axis)]
        np.add.at(weights[output], near, (integral.weights * slope)[:, None] * derivative)
    return weights


class _Values:
    """Values and first derivatives of the outputs at some places, as a function of a field asks."""

    def __init__(self, pinn: Pinn, x: np.ndarray) -> None:
        self._pinn, self._x = pinn, x
        self.asked: dict[str, torch.Tensor] = {}

    def __getattr__(self, name: str) -> torch.Tensor:
        if name in self._pinn.inputs:
            return torch.from_numpy(self._x[:, self._pinn.inputs.index(name)])
        output, _, axis = name.partition("_")
        if output not in self._pinn.outputs or (axis and axis not in self._pinn.inputs):
            raise AttributeError(name)
        if name not in self.asked:
            field = quantities_of(self._pinn, [name], self._x)
            values = torch.from_numpy(evaluate(self._pinn, self._x, field)[name])
            self.asked[name] = values.requires_grad_()
        return self.asked[name]


def _slopes(pinn: Pinn, integral: Integral) -> dict[str, np.ndarray]:
    """Derivatives ``[n]`` of the integral's function by what it takes of the fields, by name."""
    values = _Values(pinn, np.asarray(integral.x, np.float64))
    result = integral.function(values)  # type: ignore[arg-type]
    asked = list(values.asked.values())
    slopes = torch.autograd.grad(result.sum(), asked, allow_unused=True, materialize_grads=True)
    return {name: slope.numpy() for name, slope in zip(values.asked, slopes, strict=True)}


def _local_fits(near: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Weights ``[n, 3, k]`` of the nearest points ``[n, k, 2]``: of value, x- and y-derivative."""
    offset = near - x[:, None]
    size = np.linalg.norm(offset, axis=2).max(1)[:, None]
    u, v = (offset / size[:, None]).transpose(2, 0, 1)
    exponents = [(a, b) for a in range(DEGREE + 1) for b in range(DEGREE + 1 - a)]
    basis = np.stack([u**a * v**b for a, b in exponents], axis=2)
    importance = np.exp(-2 * (u**2 + v**2))[:, :, None]
    inverse = np.linalg.pinv(basis * importance) * importance.transpose(0, 2, 1)
    value, by_x, by_y = (inverse[:, exponents.index(e)] for e in ((0, 0), (1, 0), (0, 1)))
    return np.stack([value, by_x / size, by_y / size], axis=1)


def _error(pinn: Pinn, integral: Integral, x: np.ndarray, weights: Weights) -> float:
    """How far the sum's gradient is from the integral's, relative to it."""
    exact = sum_gradients(
        pinn, integral.x, {"J": integral.function}, {"J": integral.weights[:, None]}
    )
    outputs = quantities_of(pinn, pinn.outputs, x)
    parts = sum_gradients(pinn, x, outputs, {o: w[:, None] for o, w in weights.items()})
    difference = sum(parts.values()) - exact["J"]
    return float(np.linalg.norm(difference) / np.linalg.norm(exact["J"]))
