"""What scripts ask of a model, wherever it comes from."""

from __future__ import annotations

import importlib.metadata
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pinnfluence.errors import InputError
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import Pinn
from pinnfluence.problem.equation import Equation
from pinnfluence.problem.problem import Problem
from pinnfluence.reference.comparison import BATCH_SIZE, predict
from pinnfluence.runtime.devices import as_array
from pinnfluence.storage.point_checks import check_points

PACKAGES = ("pinnfluence", "torch", "numpy", "scipy")


class Model(ABC):
    """A network with its equations and the points of its training.

    pinn: the network and its equations. train_x: ``[n_train, n_inputs]``. problem: one of
    ``pinnfluence.problems`` that it solves; None: a problem of the user's own.
    """

    pinn: Pinn
    train_x: np.ndarray
    problem: Problem | None

    @property
    @abstractmethod
    def title(self) -> str:
        """Where it comes from, for the first line that a script prints."""

    @abstractmethod
    def settings(self) -> str:
        """What is known of the model, in one line."""

    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """What a score file says about where it came from."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """A checksum that distinguishes this network from others."""

    @abstractmethod
    def folder(self, what: str) -> Path:
        """The folder ``<name>_<what>`` beside it, by default of its scores or its diagnosis."""

    @abstractmethod
    def points_of(self, path: Path, what: str) -> np.ndarray:
        """Points ``[n, n_inputs]`` of a file; ``what`` they are for, such as test."""

    @abstractmethod
    def test_points(self, path: Path | None, n: int | None = None, seed: int = 0) -> np.ndarray:
        """Test points of a file, or those that are taken without one; n of them at random."""

    def predict(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs at points ``[n, n_inputs]``, by name, float64 ``[n]``."""
        return predict(self.pinn.network, self._checked(points), self.pinn.outputs)

    def fields(self, points: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Outputs and derivatives such as ``u_x`` at points ``[n, n_inputs]``, float64 ``[n]``."""
        wanted = Equation(lambda f: {name: getattr(f, name) for name in names})
        return self.pinn.at(self._checked(points), [wanted]).evaluate(BATCH_SIZE)

    def loss_density(self, points: np.ndarray) -> np.ndarray:
        """``sum_k r_k(x)^2`` over the loss terms that act at a point, ``[n]``."""
        return Loss.uniform(self.pinn.at(self._checked(points))).density(BATCH_SIZE)

    def mean_losses(self) -> dict[str, float]:
        """Mean squared residual of each loss term over the training points on which it acts."""
        return Loss.of_means(self.pinn.at(self.train_x)).term_sums(BATCH_SIZE)

    def warnings(self) -> list[str]:
        """What looks implausible."""
        rows = self.pinn.at(self.train_x).term_rows()
        return [
            f"loss term {name} acts on no training point" for name in rows if not len(rows[name])
        ]

    def _checked(self, points: np.ndarray) -> np.ndarray:
        points = as_array(points)
        check_points(points, len(self.pinn.inputs), "given")
        return points


def some_of(points: np.ndarray, n: int | None, seed: int = 0) -> np.ndarray:
    """n of the points at random, in their order; None, or more than there are: all.

    Raises:
        InputError: n below 1.
    """
    if n is not None and n < 1:
        raise InputError(f"expected --test_points of at least 1, found {n}")
    if n is None or n >= len(points):
        return points
    return points[np.sort(np.random.default_rng(seed).choice(len(points), n, replace=False))]


def versions() -> dict[str, str]:
    """Versions of the packages that results depend on."""
    return {package: importlib.metadata.version(package) for package in PACKAGES}
