"""The loss of a ``dde.Model`` as DeepXDE itself computes it, and as a function of its residuals."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pinnfluence.errors import InputError, input_errors
from pinnfluence.field.field import Declared, Field
from pinnfluence.models.deepxde.by_autograd import in_dtype
from pinnfluence.models.deepxde.model import dde
from pinnfluence.models.deepxde.point_sets import nearest
from pinnfluence.models.own_network import exact_attention
from pinnfluence.problem.domain import TOLERANCE
from pinnfluence.problem.equation import Equation
from pinnfluence.runtime.devices import float64_array

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""From targets and values ``[n, n_columns]`` to a number."""

SEPARABLE = {torch.float64: 1e-8, torch.float32: 1e-3}
"""Relative size of mixed second derivatives of a loss up to which it is a sum over its points."""


@dataclass(frozen=True)
class Expansion:
    """A loss term of the user's own up to second order in its residuals, as weighted squares.

    A loss ``L = sum_i l_i(r_i)`` with ``l_i'' > 0`` at the trained network has there the gradient,
    the Hessian and the generalised Gauss-Newton matrix ``sum_i l_i'' grad r_i grad r_i^T`` of

        c / n sum_i (f_i (r_i - s_i))^2,    c f_i^2 / n = l_i'' / 2,    s_i = r_i - l_i' / l_i'',

    and, if it is a sum of weighted squares, its value as well, with s = 0.

    factors, shifts: f and s, ``[n, n_columns]``. weight: c, such that the mean of f^2 is 1.
    offset: the loss, with DeepXDE's weight, minus that of its expansion.
    """

    factors: np.ndarray
    shifts: np.ndarray
    weight: float
    offset: float

    @property
    def is_square(self) -> bool:
        """Whether it is a mean of plain squares, up to its weight."""
        return bool((self.factors == 1).all() and not self.shifts.any())


@contextmanager
def own_model(model: Any, dtype: torch.dtype) -> Iterator[Callable[[], Tensor]]:
    """A function that gives the loss terms as DeepXDE computes them, in the given dtype.

    Of a point set in mini-batches it is the loss at all of its points.

    Raises:
        InputError: they cannot be evaluated.
    """
    data, state = model.data, model.train_state
    numbers = torch.zeros(0, dtype=dtype, device="cpu").numpy().dtype
    x = data.train_x if state.X_train is None else state.X_train
    targets = data.train_y if state.y_train is None else state.y_train
    auxiliary = getattr(data, "train_aux_vars", None)
    variables = model.external_trainable_variables or ()

    def evaluate() -> Tensor:
        arrays = [None if a is None else np.asarray(a).astype(numbers) for a in given]
        try:
            with torch.enable_grad(), exact_attention(), torch.random.fork_rng(devices=[]):
                losses: Tensor = model.outputs_losses_train(*arrays)[1]
        except InputError:
            raise
        except Exception as error:  # whatever a user's functions raise
            raise InputError(
                f"DeepXDE's own loss cannot be evaluated in {dtype}: {type(error).__name__}: "
                f"{error}; read the model with the dtype that it was trained in"
            ) from error
        return losses

    with in_dtype(model.net, variables, dtype), _without_batches(data, x) as whole:
        if whole is not x and auxiliary is not None:
            auxiliary = data.auxiliary_var_fn(whole)
        given = (whole, targets, auxiliary)
        yield evaluate


@contextmanager
def _without_batches(data: Any, x: np.ndarray) -> Iterator[np.ndarray]:
    """The points ``x`` of a model with all points of its mini-batched conditions."""
    conditions = getattr(data, "bcs", ())
    batched = [c for c in conditions if getattr(c, "batch_size", None) is not None]
    if not batched:
        yield x
        return
    before = data.train_x, data.num_bcs, [c.batch_size for c in batched]
    parts = np.split(x, np.cumsum(data.num_bcs))
    for number, condition in enumerate(conditions):
        if any(condition is c for c in batched):
            parts[number], condition.batch_size = condition.points, None
    data.train_x, data.num_bcs = np.concatenate(parts), [len(part) for part in parts[:-1]]
    try:
        yield data.train_x
    finally:
        data.train_x, data.num_bcs = before[:2]
        for condition, size in zip(batched, before[2], strict=True):
            condition.batch_size = size


def expansions(model: Any, dtype: torch.dtype) -> list[Expansion | None]:
    """The loss terms of a model in DeepXDE's order; None is the mean of squares.

    Raises:
        InputError: a loss that is no sum over its points, or is not convex in a residual.
    """
    found: list[Expansion | None] = []
    own = model.data.losses_train

    def noting(loss: LossFunction) -> LossFunction:
        def noted(target: Tensor, value: Tensor) -> Tensor:
            with input_errors(f"loss {len(found) + 1} of the model"):
                found.append(_expansion(loss, target, value))
            return loss(target, value)

        return noted

    def losses_train(targets: Any, outputs: Any, loss_fn: Any, *others: Any, **named: Any) -> Any:
        many = isinstance(loss_fn, (list, tuple))
        noted = list(map(noting, loss_fn)) if many else noting(loss_fn)
        return own(targets, outputs, noted, *others, **named)

    model.data.losses_train = losses_train
    try:
        with own_model(model, dtype) as evaluate:
            n_losses = len(evaluate())
    finally:
        del model.data.losses_train
    weights = loss_weights(model, n_losses)
    return [e and replace(e, offset=c * e.offset) for e, c in zip(found, weights, strict=True)]


def loss_weights(model: Any, n_losses: int) -> np.ndarray:
    """DeepXDE's weights c_k, ``[n_losses]``.

    Raises:
        InputError: another number of them, or weights that are negative or not finite.
    """
    weights = [1.0] if model.loss_weights is None else np.ravel(model.loss_weights).tolist()
    given = np.asarray([w.item() if isinstance(w, Tensor) else float(w) for w in weights])
    if given.size not in (1, n_losses):
        raise InputError(f"expected {n_losses} loss weights, found {given.size}")
    if not np.isfinite(given).all() or (given < 0).any():
        raise InputError(f"loss weights must be at least 0, found {given.tolist()}")
    return np.broadcast_to(given, n_losses)


def _expansion(loss: LossFunction, target: Tensor, value: Tensor) -> Expansion | None:
    """The expansion of a loss, a function of targets and values ``[n, n_columns]``."""
    if loss is dde.losses.mean_squared_error:
        return None
    slope, curvature = _derivatives(loss, target, value)
    limit, residual = SEPARABLE[value.dtype], value.detach() - target
    shifts = residual - slope / curvature
    if float(shifts.norm()) <= limit * float(residual.norm()):  # of squares
        shifts = torch.zeros_like(shifts)
    weights = 0.5 * curvature * value.numel()
    factors = (weights / weights.mean()).sqrt()
    if float((factors - 1).abs().max()) <= limit:
        factors = torch.ones_like(factors)
    offset = 0.0
    if bool(shifts.any()):
        square = 0.5 * curvature * (residual - shifts).square()
        offset = float(loss(target, value).detach() - square.sum())
    return Expansion(float64_array(factors), float64_array(shifts), float(weights.mean()), offset)


def _derivatives(loss: LossFunction, target: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """First and second derivatives of a loss by each of its values."""
    value = value.detach().requires_grad_()
    (slope,) = torch.autograd.grad(loss(target, value), value, create_graph=True)
    curvature = mixed = torch.zeros_like(value)
    signs = 1.0 - 2.0 * (torch.arange(value.numel()) * 7 % 3 % 2).to(value).view_as(value)
    if slope.requires_grad:
        (curvature,) = torch.autograd.grad(slope.sum(), value, retain_graph=True)
        (mixed,) = torch.autograd.grad(slope, value, signs)
    if float((mixed - signs * curvature).norm()) > SEPARABLE[value.dtype] * float(mixed.norm()):
        raise InputError(
            "a loss that is no sum over its points, such as a relative one, cannot be treated; "
            "expected 'MSE', or a loss function that adds up a function of each residual"
        )
    if not bool((curvature > 0).all()):
        n_flat = int((~(curvature > 0)).sum())
        raise InputError(
            f"a loss without a positive second derivative, at {n_flat} of {value.numel()} "
            "residuals, cannot be treated (MAE has none anywhere); expected 'MSE', or a loss "
            "function that is convex in each residual"
        )
    return slope.detach(), curvature


def expanded(equation: Equation, x: np.ndarray, columns: np.ndarray) -> Equation:
    """An equation with the residuals ``f_i (r_i - s_i)`` of an expansion.

    f and s stand behind its data. Other points than those of the training have f = 1 and s = 0.

    Args:
        x: the points of the training on which it acts, ``[n, n_inputs]``.
        columns: f and s there of each loss term in turn, ``[n, 2 n_terms]``.
    """
    inner = equation.residuals
    assert isinstance(inner, Declared)  # as all that are translated
    n_columns, values_of = columns.shape[1], inner.values

    def values(f: Field) -> list[Tensor]:
        own = copy.copy(f)
        own.data = f.data[:, :-n_columns]
        pairs = f.data[:, -n_columns:].unflatten(1, (-1, 2)).unbind(1)
        residuals = values_of(own)
        return [p[:, 0] * (r - p[:, 1]) for r, p in zip(residuals, pairs, strict=True)]

    def data(points: np.ndarray) -> np.ndarray:
        distances, numbers = nearest(x, points)
        plain = np.tile([1.0, 0.0], (len(points), n_columns // 2))
        mine = np.where((distances <= TOLERANCE)[:, None], columns[numbers], plain)
        given = np.zeros((len(points), 0)) if equation.data is None else equation.data(points)
        return np.hstack([given, mine])

    return replace(equation, residuals=replace(inner, values=values), data=data)
