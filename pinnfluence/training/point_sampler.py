"""What a training run asks of a sampler of its points, see ``pinnfluence.samplers``."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from pinnfluence.loss.pinn import Pinn


class Resampled(Protocol):
    """What a sampler did; ``str`` says it in one line."""

    def of(self, before: np.ndarray) -> np.ndarray:
        """The points to train on from now on, ``[n_train, n_inputs]``."""
        ...


class PointSampler(Protocol):
    """Chooses other training points every so many iterations."""

    @property
    def every(self) -> int:
        """Iterations of a phase between two times."""
        ...

    def resample(self, pinn: Pinn, points: np.ndarray, step: int) -> Resampled:
        """What to do after a step, a function of these three alone."""
        ...
