"""What different methods predict for the addition of single points to the training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import numpy as np

from pinnfluence.curvature.inverse import Solve
from pinnfluence.curvature.recipe import GAUSS_NEWTON, RECIPES, Recipe
from pinnfluence.influence.candidates import Candidates
from pinnfluence.influence.target import Target
from pinnfluence.loss.loss import Loss
from pinnfluence.runtime.executor import Executor
from pinnfluence.validation.predictions import Method, Predictions, control_methods, randomised
from pinnfluence.validation.results import MATCHED

FIRST_ORDER = ", first order"
TINY = 1e-12
"""Part of its weight with which a candidate has no curvature of its own."""


@dataclass(frozen=True)
class AddedPredictions:
    """Predicted changes of all quantities at test points by adding each of some candidates.

    known: the network theta-hat, its points, and its curvature matrices. candidates:
    ``[n_candidates, n_inputs]``.
    """

    known: Predictions
    candidates: np.ndarray

    def recipes(self) -> Iterator[Method]:
        """The named recipes, each with the candidate's own curvature and without."""
        for name, recipe in RECIPES.items():
            yield from self._by_recipe(name, recipe)

    def matched(self, proximal: float) -> Iterator[Method]:
        """The damping that the proximal term of a retraining amounts to."""
        yield from self._by_recipe(MATCHED, replace(GAUSS_NEWTON, damping=2 * proximal))

    def controls(self, seed: int = 0) -> Iterator[Method]:
        """What must do worse: no curvature, random scores, a network of random weights."""
        known = self.known
        weights = Loss.of_training(known.pinn.at(known.train_x)).weights
        dot_product = partial(self._changes, lambda columns: columns, weights, TINY)
        shape = (len(self.candidates), len(known.test_x), len(known.quantities))
        pinn = randomised(known.pinn, seed)
        other = replace(self, known=Predictions(pinn, known.train_x, known.test_x, []))
        whole = islice(other._by_recipe(GAUSS_NEWTON.base, GAUSS_NEWTON), 1)
        return control_methods(dot_product, shape, whole, seed)

    def _by_recipe(self, name: str, recipe: Recipe) -> Iterator[Method]:
        inverse, loss = self.known.fit(recipe)
        names = (recipe.curvature, recipe.weighting, recipe.rank, inverse.damping)
        for more, part in (("", 1.0), (FIRST_ORDER, TINY)):
            changes = partial(self._changes, inverse.solve, loss.weights, part)
            yield Method(name + more, *names, changes)

    def _changes(self, solve: Solve, weights: Mapping[str, float], part: float) -> np.ndarray:
        """``[n_candidates, n_test, n_q]``, of candidates that join with a part of their weight."""
        known = self.known
        target = Target(np.concatenate(known.test_gradients))
        scaled = {name: part * weight for name, weight in weights.items()}
        loss = Loss(known.pinn.at(self.candidates), scaled)
        changes = Candidates(loss, solve, target, Executor()).changes / part
        shape = (len(known.quantities), len(known.test_x), len(self.candidates))
        return changes.reshape(shape).transpose(2, 1, 0)
