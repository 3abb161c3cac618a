"""Influence of the training points on chosen quantities at a few points, exactly."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch

from pinnfluence.curvature.inverse import Inverse
from pinnfluence.errors import InputError
from pinnfluence.field.field import FieldFunction
from pinnfluence.influence.pointwise import check_pointwise
from pinnfluence.influence.training_gradients import TrainingGradients, training_scores
from pinnfluence.loss.differentiators import jacobian, point_loss_rows
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import Pinn
from pinnfluence.problem.equation import Equation
from pinnfluence.runtime.devices import as_array, float64_array
from pinnfluence.runtime.warn_once import warn_once
from pinnfluence.scores.exact import ExactMatrix

BLOCK = 1000
"""Rows of gradients ``[n, n_params]`` that are held at a time."""

FieldQuantity = str | int | FieldFunction
"""A quantity by name, an output by number, or a function of the field."""

Quantity = FieldQuantity | Callable[[Any, torch.Tensor], torch.Tensor]
"""Of a model in plain PyTorch also a function of its network (or networks) and of points."""


def as_field_function(pinn: Pinn, quantity: Quantity) -> FieldQuantity:
    """A function of a network and points, of a model in plain PyTorch, as one of the field."""
    if isinstance(quantity, np.integer):
        return int(quantity)
    if not callable(quantity) or len(inspect.signature(quantity).parameters) != 2:
        return cast(FieldQuantity, quantity)
    call = getattr(pinn.network, "call", None)
    if call is None:
        raise InputError(
            "expected a quantity that is a function of the field, such as lambda f: f.u; functions "
            "of the network and of points are for models in plain PyTorch (torch_model)"
        )
    return lambda f: call(quantity, f, f.points)


def check_quantity(
    pinn: Pinn, test_x: np.ndarray, quantity: FieldQuantity, weights: np.ndarray | None = None
) -> None:
    """Refuse what cannot be treated rightly, before anything is computed.

    Raises:
        InputError: no such quantity, weights that do not fit, or see ``check_pointwise``.
    """
    if weights is not None:
        _check_weights(as_array(weights), len(test_x))
    if callable(quantity):
        check_pointwise(pinn, quantity, test_x, "the quantity")
    elif isinstance(quantity, int):
        if not 0 <= quantity < len(pinn.outputs):
            raise InputError(
                f"expected the number of an output from 0 to {len(pinn.outputs) - 1}, "
                f"found {quantity}"
            )
    elif isinstance(quantity, str) and quantity in pinn.quantities:
        check_pointwise(pinn, pinn.quantities[quantity], test_x, f"the quantity {quantity}")
    elif quantity not in [*pinn.outputs, *pinn.terms, *pinn.groups]:
        known = ", ".join([*pinn.outputs, *pinn.quantities, *pinn.terms, *pinn.groups])
        raise InputError(
            f"no quantity {quantity!r}, expected one of {known}, or a function of a field"
        )


def warn_of_zeros(pinn: Pinn, test_x: np.ndarray, quantity: Quantity) -> None:
    """Warn where a loss term acts on none of the test points, so that all its scores are 0."""
    if not isinstance(quantity, str) or quantity not in (*pinn.terms, *pinn.groups):
        return
    terms = pinn.groups.get(quantity, [quantity])
    if not any(len(rows) for name, rows in pinn.at(test_x).term_rows().items() if name in terms):
        warn_once(
            pinn.network,
            f"{quantity} acts on none of these test points, so all of its scores are 0; ask at "
            "points where it acts, such as influence.train_x (terms of torch_model and from_pina "
            "act on their own points alone)",
        )


def _check_weights(weights: np.ndarray, n: int) -> None:
    if weights.shape != (n,):
        raise InputError(f"expected {n} weights, found shape {weights.shape}")
    if weights.dtype.kind not in "fiu":
        raise InputError(f"expected weights that are real numbers, found {weights.dtype}")
    if not np.isfinite(weights).all():
        raise InputError("expected finite weights, found NaN or infinity")


def exact_scores_of(
    pinn: Pinn,
    inverse: Inverse,
    train: TrainingGradients,
    test_x: np.ndarray,
    quantities: Sequence[FieldQuantity],
    weights: np.ndarray | None = None,
) -> list[ExactMatrix]:
    """Scores ``grad f(x)^T (M + damping I)^-1 grad l_i`` of quantities at all test points.

    Args:
        pinn: the network and its equations.
        inverse: the inverse curvature.
        train: gradients of the losses of the training points.
        test_x: test points ``[n_test, n_inputs]``.
        quantities: outputs, derived quantities, loss terms (the square, where it acts), ``pde``,
            ``bcs`` or ``all``; or functions of the field, such as ``lambda f: f.v_x - f.u_y``.
        weights: ``[n_test]``; given, a quantity is ``sum_i weights_i f(x_i)`` and has one row: an
            integral, with the weights of a quadrature.

    The quantities and the weights are taken as they are: see ``check_quantity``.
    """
    size, found = train.executor.batch_size, []
    for quantity in quantities:
        blocks = quantity_gradients(pinn, test_x, quantity, weights, size)
        rows = np.hstack([training_scores(train, inverse, [b.T], np.float64) for b in blocks])
        parts = {term: rows[here].T for term, here in train.slices.items()}
        found.append(ExactMatrix(parts, train.points, train.loss.collocation.x))
    return found


def quantity_gradients(
    pinn: Pinn, x: np.ndarray, quantity: FieldQuantity, weights: np.ndarray | None, size: int
) -> Iterator[np.ndarray]:
    """Gradients of a quantity, ``[n, n_params]`` some points at a time; weighted, their sum.

    Raises:
        InputError: some are NaN or infinite.
    """
    blocks = map(_finite, _gradients(pinn, x, quantity, size))
    if weights is None:
        yield from blocks
        return
    weights, total, start = as_array(weights), np.zeros(pinn.n_params), 0
    for block in blocks:
        total += weights[start : start + len(block)] @ block
        start += len(block)
    yield total[None]


def _finite(gradients: np.ndarray) -> np.ndarray:
    if bad := int((~np.isfinite(gradients).all(axis=1)).sum()):
        raise InputError(
            f"the gradient of the quantity is NaN or infinite at {bad} of {len(gradients)} points; "
            "expected a function that is differentiable, and finite, at all test points"
        )
    return gradients


def self_influence(inverse: Inverse, train: TrainingGradients) -> np.ndarray:
    """``Inf(l_i; z_i) = grad l_i^T (M + damping I)^-1 grad l_i`` of each training point, ``[n]``.

    How much the loss of a point grows when it is removed; l_i is the sum of its weighted terms.
    """
    found = []
    for chunk in train.loss.chunks(BLOCK):
        block = _loss_gradients(chunk, train.executor.batch_size)
        found.append((block * inverse.solve(block.T).T).sum(1))
    return np.concatenate(found)


def _gradients(
    pinn: Pinn, x: np.ndarray, quantity: FieldQuantity, size: int
) -> Iterator[np.ndarray]:
    """Gradients ``[n, n_params]`` of a quantity, some points at a time."""
    if isinstance(quantity, str) and quantity in (*pinn.terms, *pinn.groups):
        terms = pinn.groups.get(quantity, [quantity])
        weights: Mapping[str, float] = {name: float(name in terms) for name in pinn.terms}
        for chunk in Loss(pinn.at(x), weights).chunks(BLOCK):
            yield _loss_gradients(chunk, size)
        return
    equation = Equation(_alone(pinn, quantity))
    for points in pinn.at(x, [equation]).chunks(BLOCK):
        parts = [float64_array(jacobian(part)["value"][1]) for part in points.chunks(size)]
        yield np.concatenate(parts)


def _alone(pinn: Pinn, quantity: FieldQuantity) -> FieldFunction:
    """A quantity as the only value of an equation."""
    if callable(quantity):
        return lambda f: {"value": quantity(f)}
    name = pinn.outputs[quantity] if isinstance(quantity, int) else quantity
    if name in pinn.quantities:
        return lambda f: {"value": pinn.quantities[name](f)}
    return lambda f: {"value": getattr(f, name)}


def _loss_gradients(loss: Loss, size: int) -> np.ndarray:
    """Gradients ``[n, n_params]`` of the loss of each point."""
    return float64_array(torch.cat([point_loss_rows(part) for part in loss.chunks(size)]))
