"""Levenberg-Marquardt, see ``pinnfluence.training.levenberg_marquardt``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pinnfluence.loss.loss import Loss
from pinnfluence.problem.parts import Schedule
from pinnfluence.training.levenberg_marquardt import LevenbergMarquardt
from pinnfluence.training.objective import TrainingLoss
from pinnfluence.training.optimizer import Optimizer


class Damped(Optimizer):
    """Damped Gauss-Newton steps with geodesic acceleration, until none lowers the loss."""

    title, order, record_every, errors_every = "Levenberg-Marquardt", 30, 1, 10

    def __init__(self, loss: TrainingLoss, schedule: Schedule) -> None:
        super().__init__(loss, schedule)
        self.algorithm = LevenbergMarquardt(Loss.of_training(loss.collocation))

    def step(self, n: int) -> int:
        """One iteration, or none where no step lowers the loss."""
        if not self.algorithm.step():
            self.ended = "no step reduces the loss"
            return 0
        self.loss.terms = None
        return 1

    def state_dict(self) -> dict[str, Any]:
        """The damping and by how much it grows."""
        return self.algorithm.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state.keys() != self.state_dict().keys():
            raise ValueError("other settings of the optimiser")
        if not all(type(value) is float and 0 <= value < math.inf for value in state.values()):
            raise ValueError("a damping that is negative or not finite")
        self.algorithm.load_state_dict(state)

    def points_changed(self) -> None:
        """Take the Gauss-Newton matrix at the new points; the damping stays."""
        state = self.state_dict()
        self.algorithm = LevenbergMarquardt(Loss.of_training(self.loss.collocation))
        self.load_state_dict(state)


OPTIMIZER = Damped
