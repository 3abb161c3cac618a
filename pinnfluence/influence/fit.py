"""What influence scores need before they meet test points: curvature, and the training side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from pinnfluence.curvature.fit import InverseCurvature, invert
from pinnfluence.curvature.inverse import Inverse
from pinnfluence.curvature.recipe import Recipe
from pinnfluence.influence.compression import Factors, compress
from pinnfluence.influence.embeddings import embed
from pinnfluence.influence.leverage import Leverage, leverage, limit_of
from pinnfluence.influence.stationarity import stationarity
from pinnfluence.influence.training_gradients import TrainingGradients
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import Pinn
from pinnfluence.runtime.devices import tensor_like
from pinnfluence.runtime.executor import Executor
from pinnfluence.storage.stage_store import StageStore

BASIS = "basis"
TRAIN = "train/"


@dataclass(frozen=True)
class Fitted:
    """The inverse curvature of a loss, and how far the parameters are from its minimum."""

    curvature: InverseCurvature
    stationarity: dict[str, Any]

    @property
    def inverse(self) -> Inverse:
        """``(M + damping I)^-1``."""
        return self.curvature.inverse

    def metadata(self) -> dict[str, Any]:
        """What a score file says about it."""
        return {"stationarity": self.stationarity} | self.curvature.metadata()


class Fitter:
    """Curvature, training side and compression, each computed once or taken from a store.

    Args:
        loss: at the training points.
        recipe: how the inverse curvature is approximated.
        executor: carries it out.
        store: keeps the stages as they complete.
    """

    def __init__(self, loss: Loss, recipe: Recipe, executor: Executor, store: StageStore) -> None:
        self.loss, self.recipe, self.executor, self.store = loss, recipe, executor, store
        self._fitted: Fitted | None = None
        self._factors: Factors | None = None
        self._leverage: Leverage | None = None

    def fit(self) -> Fitted:
        """Inverse curvature and distance from a minimum."""
        if self._fitted is None:
            curvature = invert(self.recipe, self.loss, self.executor, self.store)
            facts = self._stationarity() | {
                "most_negative_eigenvalue": curvature.lowest,
                "largest_eigenvalue": curvature.largest,
            }
            self._fitted = Fitted(curvature, facts)
        return self._fitted

    def factors(self, test_x: np.ndarray, store: StageStore) -> tuple[Factors, dict[str, Any]]:
        """Embeddings of the training points and the basis of the others; facts of the fit.

        Args:
            test_x: test points, on which a compression depends.
            store: keeps what depends on them.
        """
        if not self.recipe.is_low_rank:
            return self._compressed(test_x, store)
        fitted = self.fit()
        if self._factors is None:
            root = fitted.inverse.root
            assert root is not None
            with self.executor.stage("training points", self.loss.collocation.n_residuals):
                basis = as_params(root, self.loss.pinn)
                found = embed(self.loss, basis, self.executor, self.store, "training_points")
            train = {name: e.values for name, e in found.items()}
            self._factors = Factors(root, train, eigenvalues=fitted.inverse.eigenvalues)
        return self._factors, fitted.metadata()

    def training_gradients(self) -> TrainingGradients:
        """Gradients of the training points' losses, with leverage those of deleted residuals."""
        residuals = self.leverage().residuals if self.recipe.leverage else None
        return TrainingGradients(self.loss, self.executor, residuals)

    def leverage(self) -> Leverage:
        """Leverage of the training points; of several processes, the first computes it."""
        if self._leverage is None:
            curvature = self.fit().curvature
            found = self._find_leverage(curvature) if self.executor.is_first else None
            self._leverage = self.executor.from_first(found)
        assert self._leverage is not None
        return self._leverage

    def _find_leverage(self, curvature: InverseCurvature) -> Leverage:
        inverse = curvature.inverse
        limit = limit_of(curvature.largest, inverse.damping)
        saved, names = self.store.load("leverage"), self.loss.pinn.terms
        if saved:
            self.executor.stages.kept("leverage")
            arrays = saved.arrays
            residuals = {name: arrays[TRAIN + name] for name in names}
            return Leverage(residuals, arrays["largest"], arrays["self_influence"], limit)
        with self.executor.stage("leverage", len(self.loss)):
            found = leverage(self.loss, inverse.solve, limit, self.executor)
        arrays = {TRAIN + name: r for name, r in found.residuals.items()}
        arrays |= {"largest": found.largest, "self_influence": found.self_influence}
        self.store.save("leverage", arrays)
        return found

    def _stationarity(self) -> dict[str, Any]:
        saved = self.executor.from_first(self.store.load("stationarity"))
        if saved:
            return saved.facts
        facts = stationarity(self.loss, self.executor)
        self.store.save("stationarity", {}, facts)
        return facts

    def _compressed(self, test_x: np.ndarray, store: StageStore) -> tuple[Factors, dict[str, Any]]:
        """With what was kept, the inverse is not needed any more."""
        saved = self.executor.from_first(store.load("factors"))
        if saved:
            self.executor.stages.kept("compression")
            basis, names = saved.arrays[BASIS], self.loss.pinn.terms
            train = {name: saved.arrays[TRAIN + name] for name in names}
            return Factors(basis, train, saved.facts["compression"]), saved.facts["fit"]
        fitted = self.fit()
        about = fitted.metadata()
        if self.recipe.leverage:
            about["leverage"] = self.leverage().summary()
        gradients, pinn = self.training_gradients(), self.loss.pinn
        with self.executor.stage("compression", 2 * gradients.n_rows // self.executor.n_processes):
            factors = self.executor.on_first(
                lambda gradients: compress(fitted.inverse, pinn, gradients, test_x),
                gradients,
                "times",
                "transposed_times",
            )
        arrays = {BASIS: factors.basis} | {TRAIN + name: a for name, a in factors.train.items()}
        store.save("factors", arrays, {"compression": factors.metadata, "fit": about})
        return factors, about


def as_params(array: np.ndarray, pinn: Pinn) -> Tensor:
    """An array in the place and the dtype of a network's parameters; float32 remains what it is."""
    return tensor_like(array, pinn.like.float() if array.dtype == np.float32 else pinn.like)
