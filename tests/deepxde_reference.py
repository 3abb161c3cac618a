"""Gradients and curvature of models in DeepXDE, by its own losses and nested autograd."""

from __future__ import annotations

import copy
import functools
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from deepxde_problems import Residual, model_of
from torch import Tensor, nn

from pinnfluence import Recipe
from pinnfluence.models.deepxde.model import dde
from pinnfluence.models.deepxde.reader import from_deepxde


@dataclass
class Errors:
    """DeepXDE's residuals: for each loss ``[n, n_columns]`` with a graph, and their points."""

    losses: list[Tensor]
    points: list[np.ndarray]
    theta: list[Tensor]


def double(net: nn.Module) -> nn.Module:
    net = copy.deepcopy(net).double()
    if isinstance(net, Residual):
        net.frequency = net.frequency.double()
    return net


def deepxde_errors(model: Any) -> Errors:
    """The errors of which DeepXDE takes the mean square, in float64."""
    net, data = double(model.net), model.data
    x = torch.as_tensor(data.train_x).double().requires_grad_()
    found = data.losses(None, net(x), lambda zero, error: error, x, model)
    dde.grad.clear()
    starts = np.cumsum([0, *data.num_bcs])
    places = [data.train_x[a:b] for a, b in itertools.pairwise(starts)]
    places = [p[: len(f)] for p, f in zip(places, found[len(found) - len(places) :], strict=True)]
    n_pde = len(found) - len(places)
    return Errors(
        list(found),
        [data.train_x_all] * n_pde + places,
        [*net.parameters(), *model.external_trainable_variables],
    )


def deepxde_losses(model: Any) -> tuple[Tensor, list[Tensor]]:
    """The loss that DeepXDE minimises, with a graph, and its parameters."""
    errors = deepxde_errors(model)
    weights = model.loss_weights or [1.0] * len(errors.losses)
    terms = [c * loss.square().mean() for c, loss in zip(weights, errors.losses, strict=True)]
    return torch.stack(terms).sum(), errors.theta


def flat_gradient(value: Tensor, theta: list[Tensor]) -> Tensor:
    """Gradient ``[n_params]`` of a number."""
    found = torch.autograd.grad(value, theta, retain_graph=True, materialize_grads=True)
    return torch.cat([g.flatten().double() for g in found])


def brute_force(model: Any) -> list[tuple[np.ndarray, Tensor, Tensor]]:
    """Points, residuals and gradients of every column of every loss."""
    errors = deepxde_errors(model)
    return [
        (
            points,
            column.detach(),
            torch.stack([flat_gradient(error, errors.theta) for error in column]),
        )
        for loss, points in zip(errors.losses, errors.points, strict=True)
        for column in loss.unbind(1)
    ]


DAMPING = {"hessian": 1000.0, "gauss-newton": 0.1}
"""Above the negative eigenvalues of the Hessians, which belong to networks far from a minimum."""


def recipe(curvature: str, rank: int | str = "full") -> Recipe:
    damping = DAMPING[curvature]
    return Recipe("paper", curvature, "training", rank, damping, threshold=0.0)


@dataclass
class Reference:
    """Dense matrices ``[n_params, n_params]``, gradients of the losses ``[n_train, n_params]``."""

    hessian: np.ndarray
    gauss_newton: np.ndarray
    gradients: dict[str, np.ndarray]

    def inverse_times(self, curvature: str, rows: np.ndarray) -> np.ndarray:
        matrix = self.hessian if curvature == "hessian" else self.gauss_newton
        return np.linalg.solve(matrix + DAMPING[curvature] * np.eye(len(matrix)), rows.T)


@functools.cache
def reference_of(name: str) -> Reference:
    """From DeepXDE's own loss, differentiated twice, and residuals point by point."""
    model = model_of(name)
    pinn = from_deepxde(model)
    total, theta = deepxde_losses(model)
    gradient = torch.autograd.grad(total, theta, create_graph=True, materialize_grads=True)
    flat = torch.cat([g.flatten().double() for g in gradient])
    hessian = torch.stack([flat_gradient(entry, theta) for entry in flat])
    places = pinn.at(pinn.training_points)
    newton, by_term = torch.zeros_like(hessian), {}
    columns = zip(pinn.terms, brute_force(model), places.term_rows().values(), strict=True)
    for term, (points, values, rows), acting in columns:
        weight = pinn.loss_weights[term] / len(values)
        newton += 2 * weight * rows.T @ rows
        by_term[term] = np.zeros((len(places.x), len(hessian)))
        order = matching(pinn.training_points[acting], points)
        by_term[term][acting] = (2 * weight * values[:, None] * rows)[order].numpy()
    return Reference(hessian.numpy(), newton.numpy(), by_term)


def matching(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """For each of our points the number of the same among theirs; repeated ones in their order."""
    order, free = [], [tuple(point) for point in theirs]
    for point in ours:
        number = free.index(tuple(point))
        free[number] = ()
        order.append(number)
    return np.array(order)


def points_of(name: str, n: int = 4) -> np.ndarray:
    """Test points inside the domain."""
    return np.random.default_rng(0).uniform(0.1, 0.9, (n, model_of(name).data.train_x.shape[1]))


def close(found: np.ndarray, expected: np.ndarray, name: str, relative: float = 1e-6) -> None:
    """To the rounding of scores, which are kept in float32, as are DeepXDE's unknowns."""
    if model_of(name).external_trainable_variables:
        relative = 1e-5
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, atol=relative * np.abs(expected).max(), rtol=0)
