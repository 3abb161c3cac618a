"""Adam."""

from __future__ import annotations

from typing import Any

import torch

from pinnfluence.problem.parts import Schedule
from pinnfluence.training.objective import TrainingLoss
from pinnfluence.training.optimizer import TorchOptimizer, is_finite

FUSED = ("cpu", "cuda", "mps")
"""Devices on which PyTorch makes Adam's step in one kernel."""


class Adam(TorchOptimizer):
    """Adam on all points at once, with the learning rate of the schedule."""

    title, order = "Adam", 10

    def __init__(self, loss: TrainingLoss, schedule: Schedule) -> None:
        super().__init__(loss, schedule)
        parameters = list(loss.network.parameters())
        fused = parameters[0].device.type in FUSED
        self.algorithm = torch.optim.Adam(parameters, lr=schedule.lr, fused=fused)

    def step(self, n: int) -> int:
        self.algorithm.step(self.loss.evaluate)  # type: ignore[arg-type]
        self.loss.terms = None
        return 1

    def is_memory(self, number: Any, memory: Any) -> bool:
        """Moments of the gradient of a parameter, and the number of steps."""
        parameters = list(self.loss.network.parameters())
        if type(number) is not int or not 0 <= number < len(parameters):
            return False
        shape = tuple(parameters[number].shape)
        expected = {"step": (), "exp_avg": shape, "exp_avg_sq": shape}
        return (
            isinstance(memory, dict)
            and memory.keys() == expected.keys()
            and all(is_finite(memory[key], shape) for key, shape in expected.items())
        )


OPTIMIZER = Adam
