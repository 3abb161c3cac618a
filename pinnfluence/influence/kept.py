"""Which stages of a computation are there already, from an interrupted or earlier one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pinnfluence.curvature.matrix_store import FINISHED, STAGE
from pinnfluence.curvature.operators import OPERATORS
from pinnfluence.influence.embeddings import n_arrays
from pinnfluence.influence.engine import Influence
from pinnfluence.influence.fit import n_gradients
from pinnfluence.loss.collocation import Collocation
from pinnfluence.storage.stage_store import StageStore


def kept_stages(influence: Influence, test_x: np.ndarray) -> dict[str, float]:
    """How much of each stage of ``influence.influence(test_x)`` is there, from 0 to 1, by name.

    Names are those of the progress bars, and ``stationarity``. Nothing is computed, written or
    removed; stages of another computation do not count, see ``Influence``.
    """
    fit, test = influence.stores(test_x)
    found = _of_full_rank(influence, fit, test) if influence.recipe.is_full else {}
    if not influence.recipe.is_full:
        places = influence.pinn.at(influence.train_x)
        found = {"eigenpairs": _whole(fit, "eigenpairs"), "damping": _whole(fit, "damping")}
        found["training points"] = _embedded(influence, fit, [("training_points", places)])
    found["stationarity"] = found.get("compression") or _whole(fit, "stationarity")
    pinn = influence.pinn
    sides = [
        ("test_outputs", pinn.at(test_x, [pinn.observables])),
        ("test_losses", pinn.at(test_x)),
    ]
    found["test points"] = _embedded(influence, test, sides)
    return found


def _of_full_rank(influence: Influence, fit: StageStore, test: StageStore) -> dict[str, float]:
    also = ["damping", *(["leverage"] if influence.recipe.leverage else [])]
    if test.facts("factors") is not None:  # with them, the inverse is not needed any more
        return dict.fromkeys(("curvature", *also, "factorisation", "compression"), 1.0)
    return {"curvature": _of_matrix(influence, fit)} | {name: _whole(fit, name) for name in also}


def _of_matrix(influence: Influence, fit: StageStore) -> float:
    facts = fit.facts(STAGE)
    n_steps = 0 if facts is None else facts.get("n_steps", 0)
    if n_steps in (0, FINISHED):
        return float(n_steps == FINISHED)
    places = influence.pinn.at(influence.train_x)
    curvature = OPERATORS[influence.recipe.curvature](
        places, influence.weights, influence.batch_size
    )
    return n_steps / curvature.n_parts


def _embedded(
    influence: Influence, store: StageStore, sides: Sequence[tuple[str, Collocation]]
) -> float:
    """The part of the gradients whose embeddings are there."""
    done = total = 0.0
    for stage, places in sides:
        part = _whole(store, stage)
        if not part:
            part = len(store.arrays_of_parts(stage)) / n_arrays(places, influence.batch_size)
        done += part * n_gradients(places)
        total += n_gradients(places)
    return done / total


def _whole(store: StageStore, stage: str) -> float:
    return float(store.facts(stage) is not None)
