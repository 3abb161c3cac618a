"""What training minimises: the loss of a network at points that may be exchanged."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pinnfluence.errors import InputError
from pinnfluence.loss.loss import LossStep
from pinnfluence.loss.pinn import Collocation, Pinn
from pinnfluence.storage.point_checks import check_points
from pinnfluence.training import loss_step


class TrainingLoss:
    """The loss ``L(theta) = sum_k c_k / |S_k| sum_{i in S_k} r_k(z_i; theta)^2`` of a ``Pinn``.

    The network is changed in place by whatever minimises the loss.

    Args:
        pinn: the network, in its dtype and on its device, with equations and weights c_k.
        points: ``[n_train, n_inputs]``.

    Attributes:
        step: the function from parameters to loss terms and gradients.
        how: a line that says whether it is compiled, and why.
        terms: the loss terms ``[n_terms]`` at the current parameters; None where these were changed
            since.
    """

    def __init__(self, pinn: Pinn, points: np.ndarray) -> None:
        self.pinn, self._compiling = pinn, ("off", 0)
        self.replace_points(points)

    @property
    def network(self) -> torch.nn.Module:
        """The network that is trained."""
        return self.pinn.network

    @property
    def points(self) -> np.ndarray:
        """The training points ``[n_train, n_inputs]``."""
        return self.collocation.x

    def replace_points(self, points: np.ndarray) -> None:
        """Take the loss at other points from now on.

        Raises:
            InputError: no points, or none for one of the loss terms.
        """
        check_points(points, len(self.pinn.inputs), "training")
        collocation: Collocation = self.pinn.at(points)
        if missing := collocation.missing:
            raise InputError(
                f"expected training points for each loss term, found none for {', '.join(missing)}"
            )
        self.collocation = collocation
        self.terms: Tensor | None = None
        self.compile(*self._compiling)

    def compile(self, mode: str, n_steps: int) -> None:
        """Compile the loss where that pays, now and whenever the points change.

        Args:
            mode: ``auto``, ``on`` or ``off``, see ``loss_step.choose``.
            n_steps: about how often the loss will be evaluated.

        Raises:
            InputError: unknown mode, or ``on`` where compiling fails.
        """
        like = next(iter(self.pinn.params.values()))
        eager = loss_step.loss_step(self.collocation, like.dtype, like.device)
        self.step: LossStep
        self.step, self.how = loss_step.choose(eager, self.pinn.params, mode, n_steps)
        self._compiling = (mode, n_steps)

    def evaluate(self) -> Tensor:
        """The loss; its terms into ``terms``, its gradients into ``.grad`` of the parameters."""
        self.terms, gradients = self.step(self.pinn.params)
        for name, p in self.network.named_parameters():
            p.grad = gradients[name]
        return self.terms.sum()

    def current_terms(self) -> Tensor:
        """The loss terms at the current parameters, ``[n_terms]``."""
        if self.terms is None:
            self.evaluate()
        assert self.terms is not None
        return self.terms
