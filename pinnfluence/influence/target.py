"""What points are to be added for: numbers that a network predicts, or squares that shall fall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pinnfluence.errors import InputError
from pinnfluence.influence.point_rows import residual_rows
from pinnfluence.influence.quantity import (
    Quantity,
    as_field_function,
    check_quantity,
    quantity_gradients,
)
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import Pinn
from pinnfluence.runtime.executor import Executor
from pinnfluence.storage.point_checks import check_points


@dataclass(frozen=True)
class Target:
    """Numbers J_j of a network, or the sum of their squares, as functions of a step of theta.

    A step delta of the parameters changes the numbers by ``E delta``, to first order. With values t
    the target is the sum of squares ``|t + E delta|^2``, such as a loss (t are residuals) or a
    squared error (t is network minus solution); without, it is the numbers themselves.

    gradients: E, ``[n_targets, n_params]``. values: t ``[n_targets]``, or None.
    """

    gradients: np.ndarray
    values: np.ndarray | None = None

    def change(self, moves: np.ndarray) -> np.ndarray:
        """The change of the target when its numbers change by moves ``[n_targets, n]``.

        ``|t + moves|^2 - |t|^2``, ``[n]``; of numbers the moves themselves.
        """
        if self.values is None:
            return moves
        found: np.ndarray = (moves * (2 * self.values[:, None] + moves)).sum(0)
        return found


def target_of(
    pinn: Pinn,
    wanted: Quantity | Loss | Target,
    at: np.ndarray | None,
    weights: np.ndarray | None,
    executor: Executor,
) -> Target:
    """The target that a user names.

    Args:
        wanted: a ``Target`` or a ``Loss``, as it is; or a quantity as of ``Influence.scores``. Loss
            terms and their sums by name are sums of squares.
        at: where the quantity is asked for, ``[n, n_inputs]``.
        weights: ``[n]``; given, the target is ``sum_i weights_i f(x_i)``.

    Raises:
        InputError: no points for a quantity, points or weights for what has them already, another
            network's gradients; what ``check_quantity`` refuses.
    """
    if isinstance(wanted, Loss | Target):
        if at is not None or weights is not None:
            raise InputError("expected points and weights with a quantity only, found them beside "
                             f"a {type(wanted).__name__}, which has its own")  # fmt: skip
        target = wanted if isinstance(wanted, Target) else loss_target(wanted, executor)
        if target.gradients.shape[1] != pinn.n_params:
            raise InputError(
                f"expected a target of {pinn.n_params} parameters, found one of "
                f"{target.gradients.shape[1]}: of another network"
            )
        return target
    if at is None:
        raise InputError("expected the points at which the quantity is asked for: give at=")
    check_points(at, len(pinn.inputs), "test")
    quantity = as_field_function(pinn, wanted)
    check_quantity(pinn, at, quantity, weights)
    if isinstance(quantity, str) and quantity in (*pinn.terms, *pinn.groups):
        if weights is not None:
            raise InputError(f"expected no weights for the squares of {quantity}: give a Loss")
        terms = pinn.groups.get(quantity, [quantity])
        loss = Loss(pinn.at(at), {name: float(name in terms) for name in pinn.terms})
        return loss_target(loss, executor)
    blocks = quantity_gradients(pinn, at, quantity, weights, executor.batch_size)
    return Target(np.concatenate(list(blocks)))


def loss_target(loss: Loss, executor: Executor) -> Target:
    """A loss, ``sum_i sum_k w_k r_k(x_i)^2``, as a sum of squares."""
    rows = [row for row in residual_rows(loss, executor.batch_size) if row.scale]
    if not rows:
        raise InputError("expected points on which a loss term acts, found none")
    roots = [row.scale / 2**0.5 for row in rows]
    return Target(
        np.concatenate([w * row.gradients for w, row in zip(roots, rows, strict=True)]),
        np.concatenate([w * row.values for w, row in zip(roots, rows, strict=True)]),
    )
