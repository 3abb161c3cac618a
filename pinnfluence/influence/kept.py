"""Which stages of a computation are there already, from an interrupted or earlier one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pinnfluence.curvature.inverse import method_of
from pinnfluence.curvature.operators import OPERATORS
from pinnfluence.influence.embeddings import n_arrays
from pinnfluence.influence.engine import Influence
from pinnfluence.loss.pinn import Collocation
from pinnfluence.storage.stage_store import StageStore


def kept_stages(influence: Influence, test_x: np.ndarray) -> dict[str, float]:
    """How much of each stage of ``influence.influence(test_x)`` is there, from 0 to 1, by name.

    Names are those of the progress bars, and ``stationarity``. Nothing is computed, written or
    removed; stages of another computation do not count, see ``Influence``.
    """
    fit, test = influence.stores(test_x)
    recipe, pinn = influence.recipe, influence.pinn
    curvature = OPERATORS[recipe.curvature](influence.loss, influence.executor)
    kept = method_of(recipe.inverse, curvature).kept(curvature, fit)
    kept["damping"], kept["stationarity"] = _whole(fit, "damping"), _whole(fit, "stationarity")
    if recipe.is_low_rank:
        sides = [("training_points", influence.loss.collocation)]
        kept["training points"] = _embedded(influence, fit, sides)
    else:
        if recipe.leverage:
            kept["leverage"] = _whole(fit, "leverage")
        if test.facts("factors") is not None:  # with them, the inverse is not needed any more
            names = (*kept, "factorisation", "compression")
            kept = dict.fromkeys(names, 1.0)
    sides = [
        ("test_outputs", pinn.at(test_x, [pinn.observables])),
        ("test_losses", pinn.at(test_x)),
    ]
    kept["test points"] = _embedded(influence, test, sides)
    return kept


def _embedded(
    influence: Influence, store: StageStore, sides: Sequence[tuple[str, Collocation]]
) -> float:
    """The part of the gradients whose embeddings are there."""
    done = total = 0.0
    for stage, points in sides:
        part = _whole(store, stage)
        if not part:
            n = max(1, n_arrays(points, influence.executor))  # no term need act there
            part = len(store.arrays_of_parts(stage)) / n
        done += part * points.n_residuals
        total += points.n_residuals
    return done / total if total else 1.0


def _whole(store: StageStore, stage: str) -> float:
    return float(store.facts(stage) is not None)
