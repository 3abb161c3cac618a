"""Scores of a ``dde.Model`` a second time: DeepXDE's own functions, plain double backward.

Nothing here uses the package. With residuals ``r_k(z_i; theta)`` of the loss terms k,

    L = sum_k c_k / |S_k| sum_i r_k(z_i)^2  (+ decay / 2 |theta|^2),
    G = 2 sum_k c_k / |S_k| J_k^T J_k       (+ decay I),
    score = grad f(x)^T (G + damping I)^-1 grad l_i,   l_i = sum_k c_k / |S_k| r_k(z_i)^2,

where theta is what the optimiser moves. The weighted Jacobian ``A``, ``G = A^T A``, is decomposed
into singular values, so that the scores keep their digits at any damping.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .common import dde


@dataclass(frozen=True)
class Loss:
    """One loss term of DeepXDE, with all its columns.

    points: ``[n, n_inputs]``. jacobian: gradients ``[n, n_columns, n_params]`` of the residuals.
    slope, curvature: first and second derivative of the loss by each residual, ``[n, n_columns]``,
    ``2 r / |S_k|`` and ``2 / |S_k|`` for the mean of squares. weight: c_k.
    """

    points: np.ndarray
    jacobian: np.ndarray
    slope: np.ndarray
    curvature: np.ndarray
    weight: float


@dataclass(frozen=True)
class Oracle:
    """Everything that is needed of a model: its losses, theta and the decay of each entry."""

    losses: list[Loss]
    decay: np.ndarray

    def gradient(self) -> np.ndarray:
        """Gradient of the whole loss, ``[n_params]``, without the decay."""
        parts = [
            np.einsum("nc,ncp->p", loss.weight * loss.slope, loss.jacobian) for loss in self.losses
        ]
        return np.asarray(sum(parts))

    def scores(self, gradients: np.ndarray, damping: float) -> list[np.ndarray]:
        """Scores ``[n_test, n]`` of the points of each loss, for ``gradients`` ``[n_test, p]``."""
        scale = 1 / np.sqrt(damping + self.decay)  # turns damping and decay into the identity
        blocks = [
            (np.sqrt(loss.weight * loss.curvature)[:, :, None] * loss.jacobian * scale).reshape(
                -1, len(scale)
            )
            for loss in self.losses
        ]
        U, s, Vt = np.linalg.svd(np.vstack(blocks), full_matrices=False)
        rows = (gradients * scale) @ Vt.T * (s / (1 + s**2)) @ U.T
        starts = np.cumsum([0, *map(len, blocks)])  # rows of each loss
        found = []
        for loss, (a, b) in zip(self.losses, itertools.pairwise(starts), strict=True):
            parts = rows[:, a:b].reshape(len(rows), *loss.slope.shape)
            found.append((parts * loss.slope * np.sqrt(loss.weight / loss.curvature)).sum(2))
        return found

    def scores_by_matrix(self, gradients: np.ndarray, matrix: np.ndarray) -> list[np.ndarray]:
        """Scores by a given matrix ``M + damping I``, such as a Hessian."""
        solved = np.linalg.solve(matrix, gradients.T).T
        return [
            np.einsum("tp,nc,ncp->tn", solved, loss.weight * loss.slope, loss.jacobian)
            for loss in self.losses
        ]


def by_formula(
    x: Tensor, shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 0
) -> Tensor:
    """``torch.nn.functional.layer_norm`` by its formula."""
    axes = tuple(range(-len(shape), 0))
    variance = x.var(axes, keepdim=True, correction=0)
    normal = (x - x.mean(axes, keepdim=True)) / torch.sqrt(variance + eps)
    return normal if weight is None or bias is None else normal * weight + bias


@contextlib.contextmanager
def right_derivatives() -> Iterator[None]:
    """PyTorch's kernel of layer normalisation has wrong higher derivatives."""
    kernel = torch.nn.functional.layer_norm
    torch.nn.functional.layer_norm = by_formula  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.nn.functional.layer_norm = kernel


def theta_of(model: Any) -> tuple[list[Tensor], list[float]]:
    """The parameters that the optimiser moves, in the order of network and unknowns, and decays."""
    moved = {
        id(p): group.get("weight_decay") or 0.0
        for group in model.opt.param_groups
        for p in group["params"]
        if p.requires_grad
    }
    every = [*model.net.parameters(), *model.external_trainable_variables]
    theta = [p for p in every if id(p) in moved]
    assert len(theta) == len(moved)
    return theta, [moved[id(p)] for p in theta]


def flat_gradient(value: Tensor, theta: list[Tensor]) -> np.ndarray:
    """Gradient ``[n_params]`` of a number."""
    found = torch.autograd.grad(
        value, theta, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return torch.cat([g.flatten() for g in found]).numpy()


def pairs_of(model: Any) -> list[tuple[Tensor, Tensor]]:
    """What each loss of DeepXDE compares, targets and values ``[n, n_columns]``, with a graph."""
    data, net = model.data, model.net
    auxiliary = getattr(data, "train_aux_vars", None)
    net.auxiliary_vars = None if auxiliary is None else torch.as_tensor(auxiliary)
    net.train(False)
    x = torch.as_tensor(data.train_x).requires_grad_()
    targets = None if data.train_y is None else torch.as_tensor(data.train_y)
    pairs: list[tuple[Tensor, Tensor]] = []
    dde.grad.clear()
    data.losses(targets, net(x), lambda target, value: pairs.append((target, value)), x, model)
    dde.grad.clear()
    return pairs


def derivatives(loss: Any, target: Tensor, value: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """First and second derivative of a loss, a sum over residuals, by each of these."""
    value = value.detach().requires_grad_()
    (slope,) = torch.autograd.grad(loss(target, value), value, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), value)
    return slope.detach().numpy(), curvature.numpy()


def points_of(model: Any, n_losses: int) -> list[np.ndarray]:
    """Training points of each loss: those of the equations, then those of each condition."""
    data = model.data
    conditions = getattr(data, "bcs", [])
    if not hasattr(data, "num_bcs"):
        return [data.train_x] * n_losses
    starts = np.cumsum([0, *data.num_bcs])
    own = [data.train_x[a:b] for a, b in itertools.pairwise(starts)]
    return [data.train_x[starts[-1] :]] * (n_losses - len(conditions)) + own


@right_derivatives()
def oracle_of(model: Any) -> Oracle:
    """Jacobians and losses of a model, entry by entry."""
    theta, decays = theta_of(model)
    pairs = pairs_of(model)
    weights = np.broadcast_to(np.asarray(model.loss_weights or 1.0, float), len(pairs))
    own = model.own_loss if isinstance(model.own_loss, list) else [model.own_loss] * len(pairs)
    places = points_of(model, len(pairs))
    losses = []
    for (target, value), loss, points, weight in zip(pairs, own, places, weights, strict=True):
        rows = [flat_gradient(entry, theta) for entry in value.flatten()]
        jacobian = np.stack(rows).reshape(*value.shape, -1)
        parts = derivatives(dde.losses.get(loss), target, value)
        losses.append(Loss(points[: len(value)], jacobian, *parts, float(weight)))
    decay = np.concatenate(
        [np.full(p.numel(), decay) for p, decay in zip(theta, decays, strict=True)]
    )
    return Oracle(losses, decay)


@right_derivatives()
def own_gradient(model: Any) -> np.ndarray:
    """Gradient of the loss that DeepXDE itself minimises, ``[n_params]``, without the decay."""
    data = model.data
    losses = model.outputs_losses_train(
        data.train_x, data.train_y, getattr(data, "train_aux_vars", None)
    )[1]
    return flat_gradient(losses.sum(), theta_of(model)[0])


@right_derivatives()
def hessian_of(model: Any) -> np.ndarray:
    """Hessian ``[n_params, n_params]`` of the loss that DeepXDE itself minimises."""
    data, (theta, _) = model.data, theta_of(model)
    losses = model.outputs_losses_train(
        data.train_x, data.train_y, getattr(data, "train_aux_vars", None)
    )[1]
    gradient = torch.autograd.grad(losses.sum(), theta, create_graph=True, materialize_grads=True)
    flat = torch.cat([g.flatten() for g in gradient])
    return np.stack([flat_gradient(entry, theta) for entry in flat])


@right_derivatives()
def output_gradients(model: Any, x: np.ndarray) -> np.ndarray:
    """Gradients ``[n, n_params]`` of the first output at points ``[n, n_inputs]``."""
    theta, _ = theta_of(model)
    model.net.train(False)
    dde.grad.clear()
    outputs = model.net(torch.as_tensor(x).requires_grad_())[:, 0]
    dde.grad.clear()
    return np.stack([flat_gradient(value, theta) for value in outputs])
