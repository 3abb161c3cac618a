"""Optimisers for a ``dde.Model`` of DeepXDE: Levenberg-Marquardt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from pinnfluence.errors import InputError
from pinnfluence.loss.loss import Loss
from pinnfluence.models.deepxde.checks import refuse
from pinnfluence.models.deepxde.network import own_parameters
from pinnfluence.models.deepxde.own_loss import expansions
from pinnfluence.models.deepxde.reader import from_deepxde
from pinnfluence.training.levenberg_marquardt import LevenbergMarquardt as Algorithm


class LevenbergMarquardt:
    """Trains a ``dde.Model`` by damped Gauss-Newton steps with geodesic acceleration.

    It minimises the model's own loss ``sum_k c_k mean r_k^2``, with the loss weights and unknowns
    that it was compiled with, and trains the parameters that its optimiser would train. Each
    iteration takes all residuals and their gradients once, solves a system of ``n_params``
    unknowns, and lowers the loss: see ``pinnfluence.training.levenberg_marquardt``. Up to some
    thousand parameters it reaches in hundreds of iterations what first-order methods never reach.

    Residuals, gradients and steps are computed in float64 on a copy of the network. Let DeepXDE
    keep the digits of the weights, too: ``dde.config.set_default_float("float64")``.

    Args:
        model: compiled, for example by ``model.compile("adam", lr=1e-3)``, whose learning rate is
            not used; trained before or not.
        damping: of the first iteration; it follows the decrease of the loss from there.

    Attributes:
        damping: at present.
        ended: why the last ``train`` ended before its last iteration, or nothing.

    Raises:
        InputError: while training, a loss that is no sum of squares or cannot be treated (see
            ``from_deepxde``), or weight decay, which belongs to no residual.

    >>> model.compile("adam", lr=1e-3, loss_weights=[1, 10, 10])         # doctest: +SKIP
    >>> optimizer = pinnfluence.optimizers.LevenbergMarquardt(model)     # doctest: +SKIP
    >>> losshistory, train_state = optimizer.train(iterations=300)       # doctest: +SKIP
    """

    def __init__(self, model: Any, damping: float = 1e-2) -> None:
        if not damping > 0:
            raise InputError(f"expected a damping above 0, found {damping}")
        self.model, self.ended = model, ""
        self._state = {"damping": float(damping), "raise_by": 2.0}
        self._algorithm: Algorithm | None = None
        self._points: np.ndarray | None = None
        self._verbose = 1

    @property
    def damping(self) -> float:
        """Of the next iteration."""
        return float(self._state["damping"])

    def train(
        self,
        iterations: int,
        display_every: int = 10,
        callbacks: Sequence[Any] | None = None,
        verbose: int = 1,
    ) -> tuple[Any, Any]:
        """Train as ``model.train`` does, with its history, its display and its callbacks.

        Args:
            iterations: at most so many; it ends where no step lowers the loss.
            display_every, callbacks, verbose: as in ``model.train``.

        Returns:
            DeepXDE's ``losshistory`` and ``train_state``; the weights are in ``model.net``.
        """
        model = self.model
        refuse(model)
        self.ended, self._verbose = "", verbose
        self._algorithm = None  # the weights may have been changed meanwhile
        own = model.opt_name, model.train_step
        model.opt_name, model.train_step = "Levenberg-Marquardt", self._step
        try:
            model.train(
                iterations=iterations,
                display_every=display_every,
                callbacks=callbacks,
                verbose=verbose,
            )
        finally:
            model.opt_name, model.train_step = own
            vars(model).pop("_test", None)
        return model.losshistory, model.train_state

    def _step(self, x: np.ndarray, *_: Any) -> None:
        """One iteration, in the place of that of DeepXDE's own optimiser."""
        if self._algorithm is None or x is not self._points:
            self._algorithm, self._points = self._at_its_points(), x
        if not self._algorithm.step():
            self._stop()
            return
        self._state = self._algorithm.state_dict()
        network = self._algorithm.loss.pinn.network
        own = own_parameters(self.model, network)
        with torch.no_grad():
            for name, p in network.named_parameters():
                own[name].copy_(p)

    def _at_its_points(self) -> Algorithm:
        """The algorithm for the model's weights and training points."""
        pinn = from_deepxde(self.model)
        if pinn.weight_decay:
            raise InputError(
                "weight decay is no square of a residual and cannot be minimised by Levenberg-"
                f"Marquardt, found {pinn.weight_decay}: compile a network without regularisation"
            )
        if any(e is not None and e.shifts.any() for e in expansions(self.model, torch.float64)):
            raise InputError(
                "expected a loss of squares, found a loss function that is none: compile with 'MSE'"
            )
        algorithm = Algorithm(Loss.of_training(pinn.at(pinn.training_points)))
        algorithm.load_state_dict(self._state)
        return algorithm

    def _stop(self) -> None:
        """End the training at the weights of the last iteration, which DeepXDE shall not count."""
        model, state = self.model, self.model.train_state
        self.ended, model.stop_training = "no step reduces the loss", True
        if model.losshistory.steps[-1] != state.step:
            model._test(verbose=self._verbose)
        model._test = lambda **_: None  # else it may show and record this step twice
        state.iteration, state.step = state.iteration - 1, state.step - 1
