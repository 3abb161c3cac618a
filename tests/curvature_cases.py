"""Weights of a small flow, and stages that note their counts, for tests of curvature matrices."""

from contextlib import contextmanager

import numpy as np
from brute_force import TERMS

from pinnfluence.curvature.operators import Curvature
from pinnfluence.runtime.progress import Stages

LAYERS = (2, 4, 3, 3)
ONES = dict.fromkeys(TERMS, 1.0)
WEIGHTS = dict(zip(TERMS, np.linspace(0.3, 4.0, len(TERMS)), strict=True))


class Counted(Stages):
    """Notes what is told of finished steps."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: list[int] = []

    @contextmanager
    def _counter(self, name, total):
        yield self.counts.append

    def counted(self, matrix: Curvature) -> np.ndarray:
        """The dense matrix, made as a stage."""
        with matrix.executor.stage("curvature", matrix.n_steps):
            return matrix.dense()
