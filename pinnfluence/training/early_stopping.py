"""Early stopping: the loss at fresh points says when a phase ends, and which weights are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pinnfluence.errors import InputError
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import Pinn
from pinnfluence.storage.point_checks import check_points

BATCH = 10_000
"""Fresh points whose residuals are computed together."""


@dataclass(frozen=True)
class Snapshot:
    """The weights of the least loss at fresh points so far.

    fresh_loss: that loss. step: at which it was. network: its state. train_x: the training points
    of that step, ``[n_train, n_inputs]``.
    """

    fresh_loss: float
    step: int
    network: dict[str, torch.Tensor]
    train_x: np.ndarray

    def content(self) -> dict[str, Any]:
        """Tensors and numbers for a file."""
        return {**vars(self), "train_x": torch.from_numpy(np.ascontiguousarray(self.train_x))}


class EarlyStopping:
    """Watches ``L_fresh = sum_k c_k / |S_k| sum_{i in S_k} r_k(z_i)^2`` over fresh points.

    The loss on the training points may fall for ever while the network gets worse between them.
    That on points which no optimiser sees does not. A run asks for it wherever its history takes
    errors.

    Args:
        pinn: the network that is trained.
        fresh_x: ``[n, n_inputs]``, points that are never trained on.
        patience: iterations without a lower loss after which a phase ends.

    Attributes:
        best: the weights of the least loss at fresh points so far.

    Raises:
        InputError: a patience below 1, or a loss term without a fresh point.
    """

    def __init__(self, pinn: Pinn, fresh_x: np.ndarray, patience: int) -> None:
        if patience < 1:
            raise InputError(f"expected a patience of at least 1 iteration, found {patience}")
        check_points(fresh_x, len(pinn.inputs), "fresh")
        self.patience = patience
        self.best: Snapshot | None = None
        self._loss = Loss.of_training(pinn.at(fresh_x))
        if missing := self._loss.collocation.missing:
            raise InputError(
                f"no fresh point for loss term {', '.join(missing)}, so its loss there is unknown; "
                "train without --patience"
            )

    def fresh_loss(self, step: int, train_x: np.ndarray) -> float:
        """L_fresh of the present weights, of which a snapshot is kept where it is the least."""
        value = sum(self._loss.term_sums(BATCH).values())
        if self.best is None or value < self.best.fresh_loss:
            weights = self._loss.pinn.network.state_dict()
            copies = {name: tensor.detach().clone() for name, tensor in weights.items()}
            self.best = Snapshot(value, step, copies, train_x)
        return value

    def ends(self, begin: int, asked: int) -> bool:
        """Whether a phase is over, as the loss has not fallen for so many iterations.

        Args:
            begin: the step at which the phase began. asked: that of the last ``fresh_loss``.
        """
        return self.best is not None and asked - max(begin, self.best.step) >= self.patience
