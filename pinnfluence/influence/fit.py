"""What influence scores need before they meet test points: curvature, and the training side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from pinnfluence.curvature.inverse_curvature import InverseCurvature, invert
from pinnfluence.curvature.recipe import Recipe
from pinnfluence.influence.compression import Factors, compress
from pinnfluence.influence.embeddings import embed
from pinnfluence.influence.gradient_rows import TrainingGradients
from pinnfluence.influence.leverage import Leverage, leverage, limit_of
from pinnfluence.influence.stationarity import stationarity
from pinnfluence.loss.collocation import Collocation, Pinn
from pinnfluence.loss.gradients import Advance
from pinnfluence.runtime import distributed
from pinnfluence.runtime.devices import tensor_like
from pinnfluence.runtime.progress import Stages
from pinnfluence.storage.stage_store import StageStore

BASIS = "basis"
TRAIN = "train/"


@dataclass(frozen=True)
class Fitted:
    """The inverse curvature of a loss, and how far the parameters are from its minimum."""

    curvature: InverseCurvature
    stationarity: dict[str, Any]

    def metadata(self) -> dict[str, Any]:
        """What a score file says about it."""
        return {"stationarity": self.stationarity} | self.curvature.metadata()


class Fitter:
    """Curvature, training side and compression, each computed once or taken from a store.

    Args:
        collocation: the loss terms at the training points.
        weights: of the loss terms.
        recipe: how the inverse curvature is approximated.
        batch_size: points whose derivatives are held at a time.
        stages: is told of the stages.
        store: keeps them as they complete.
    """

    def __init__(
        self,
        collocation: Collocation,
        weights: Mapping[str, float],
        recipe: Recipe,
        batch_size: int,
        stages: Stages,
        store: StageStore,
    ) -> None:
        self.collocation, self.weights, self.recipe = collocation, dict(weights), recipe
        self.batch_size, self.stages, self.store = batch_size, stages, store
        self._fitted: Fitted | None = None
        self._low_rank: Factors | None = None
        self._leverage: Leverage | None = None

    def fit(self) -> Fitted:
        """Inverse curvature and distance from a minimum."""
        if self._fitted is None:
            curvature = invert(
                self.recipe,
                self.collocation,
                self.weights,
                self.batch_size,
                self.stages,
                self.store,
            )
            facts = self._stationarity() | {
                "most_negative_eigenvalue": curvature.most_negative,
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
        if self.recipe.is_full:
            return self._compressed(test_x, store)
        fitted = self.fit()
        if self._low_rank is None:
            self._low_rank = self._training_side(fitted.curvature)
        return self._low_rank, fitted.metadata()

    def training_gradients(
        self, advance: Advance = lambda n: None, expect: Advance = lambda n: None
    ) -> TrainingGradients:
        """Gradients of the training points' losses, under a recipe with leverage the deleted ones.

        advance, expect: see ``TrainingGradients``.
        """
        residuals = self.leverage().residuals if self.recipe.leverage else None
        return TrainingGradients(
            self.collocation, self.weights, self.batch_size, advance, expect, residuals
        )

    def leverage(self) -> Leverage:
        """Leverage of the training points; of several processes, the first computes it."""
        if self._leverage is None:
            curvature = self.fit().curvature
            found = self._find_leverage(curvature) if distributed.is_first() else None
            self._leverage = distributed.from_first(found)
        assert self._leverage is not None
        return self._leverage

    def _find_leverage(self, curvature: InverseCurvature) -> Leverage:
        inverse = curvature.inverse
        limit = limit_of(curvature.largest, inverse.damping)
        saved, names = self.store.load("leverage"), self.collocation.pinn.terms
        if saved:
            self.stages.found("leverage")
            arrays = saved.arrays
            residuals = {name: arrays[TRAIN + name] for name in names}
            return Leverage(residuals, arrays["largest"], arrays["self_influence"], limit)
        with self.stages.stage("leverage", len(self.collocation.x)) as advance:
            found = leverage(
                self.collocation, self.weights, inverse.solve, self.batch_size, limit, advance
            )
        arrays = {TRAIN + name: r for name, r in found.residuals.items()}
        arrays |= {"largest": found.largest, "self_influence": found.self_influence}
        self.store.save("leverage", arrays)
        return found

    def _stationarity(self) -> dict[str, Any]:
        saved = distributed.from_first(self.store.load("stationarity"))
        if saved:
            return saved.facts
        facts = stationarity(self.collocation, self.weights, self.batch_size)
        self.store.save("stationarity", {}, facts)
        return facts

    def _training_side(self, curvature: InverseCurvature) -> Factors:
        pairs = curvature.pairs
        assert pairs is not None
        basis = pairs.vectors / np.sqrt(pairs.values)
        with self.stages.stage("training points", n_gradients(self.collocation)) as advance:
            found = embed(
                self.collocation,
                as_params(basis, self.collocation.pinn),
                self.batch_size,
                self.weights,
                self.store,
                "training_points",
                advance,
            )
        embeddings = {name: e.values for name, e in found.items()}
        return Factors(basis, embeddings, eigenvalues=pairs.values)

    def _compressed(self, test_x: np.ndarray, store: StageStore) -> tuple[Factors, dict[str, Any]]:
        """With what was kept, the inverse is not needed any more."""
        saved = distributed.from_first(store.load("factors"))
        if saved:
            self.stages.found("compression")
            basis, names = saved.arrays[BASIS], self.collocation.pinn.terms
            train = {name: saved.arrays[TRAIN + name] for name in names}
            return Factors(basis, train, saved.facts["compression"]), saved.facts["fit"]
        fitted = self.fit()
        about = fitted.metadata()
        if self.recipe.leverage:
            about["leverage"] = self.leverage().summary()
        n_rows = n_gradients(self.collocation) // distributed.world_size()
        with self.stages.stage("compression", 2 * n_rows) as count:
            gradients = self.training_gradients(count, count.expect)
            inverse, pinn = fitted.curvature.inverse, self.collocation.pinn
            factors = distributed.led(
                lambda gradients: compress(inverse, pinn, gradients, test_x),
                gradients,
                "times",
                "transposed_times",
            )
        arrays = {BASIS: factors.basis} | {TRAIN + name: a for name, a in factors.train.items()}
        store.save("factors", arrays, {"compression": factors.metadata, "fit": about})
        return factors, about


def n_gradients(collocation: Collocation) -> int:
    """Number of gradients: of each quantity at the points on which it acts."""
    return sum(map(len, collocation.term_rows().values()))


def as_params(array: np.ndarray, pinn: Pinn) -> Tensor:
    """An array in the place and the dtype of a network's parameters; float32 remains what it is."""
    like = next(iter(pinn.params.values()))
    return tensor_like(array, like.float() if array.dtype == np.float32 else like)
