"""The inverse curvature of a loss, as a recipe asks for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pinnfluence.curvature.damping import (
    Damping,
    automatic_damping,
    neglected_part,
    open_part,
    rounding,
)
from pinnfluence.curvature.damping import signed_gradients as gradients_of
from pinnfluence.curvature.inverse import Inverse, InverseMethod, method_of
from pinnfluence.curvature.operators import OPERATORS, Curvature, Hessian
from pinnfluence.curvature.recipe import Recipe
from pinnfluence.errors import InputError
from pinnfluence.loss.loss import Loss
from pinnfluence.runtime.executor import Executor
from pinnfluence.storage.stage_store import CLOSED, StageStore


@dataclass(frozen=True)
class InverseCurvature:
    """A damped inverse and what is known of the matrix.

    inverse: ``(M + damping I)^-1``; of several processes only the first can solve, unless it is of
    low rank. largest, lowest: extreme eigenvalues of M; those that were seen. facts: of the method,
    for a score file. chosen: how the damping was chosen, if by the rule.
    """

    inverse: Inverse
    largest: float
    lowest: float
    facts: dict[str, Any]
    chosen: Damping | None

    def metadata(self) -> dict[str, Any]:
        """What a score file says about it."""
        rule = {"automatic_damping": self.chosen.metadata()} if self.chosen else {}
        return self.facts | {"damping": self.inverse.damping} | rule


def invert(
    recipe: Recipe, loss: Loss, executor: Executor, store: StageStore = CLOSED
) -> InverseCurvature:
    """The inverse curvature of a loss that a recipe asks for.

    The store keeps what the method computed for all dampings, and the damping that was chosen.

    Raises:
        InputError: with figures: NaN, no convergence, no eigenvalue above the threshold, an
            indefinite or singular matrix.
    """
    curvature = OPERATORS[recipe.curvature](loss, executor)
    method = method_of(recipe.inverse, curvature)(
        curvature, store, recipe.n_pairs, recipe.threshold
    )
    method.fit()
    last: list[Inverse] = []  # a single one: each may hold a matrix

    def at(damping: float) -> Inverse:
        if not last or last[0].damping != damping + loss.weight_decay:
            last.clear()
            last.append(method.at(damping + loss.weight_decay))
        return last[0]

    chosen = _choose(method, at) if recipe.is_automatic else None
    damping = chosen.value if chosen else float(recipe.damping)
    last.clear()
    method.prepare(damping + loss.weight_decay)
    if method.everywhere:
        inverse = at(damping)
    else:
        with executor.stage("factorisation", 1):
            inverse = at(damping) if executor.is_first else _OfAnotherProcess(damping)
            executor.advance()
    return InverseCurvature(inverse, method.largest, method.lowest, method.metadata(), chosen)


class _OfAnotherProcess(Inverse):
    """An inverse that the first of several processes has."""

    def __init__(self, damping: float) -> None:
        self.damping = damping

    def solve(self, vectors: np.ndarray) -> np.ndarray:
        """Raise InputError."""
        raise InputError("only the first of several processes has the inverse; start a single one")


def _choose(method: InverseMethod, at: Callable[[float], Inverse]) -> Damping:
    """The damping by the rule of ``curvature.damping``, or as the store has it."""
    executor, store, curvature = method.executor, method.store, method.curvature
    saved = executor.from_first(store.load("damping"))
    if saved:
        executor.stages.kept("damping")
        return Damping.of(saved.facts)

    def choose(hessian: Curvature | None) -> Damping:
        return automatic_damping(
            method.largest,
            min(0.0, method.lowest),
            rounding(curvature.loss.pinn),
            lambda damping: open_part(at(damping), gradients),
            lambda damping: neglected_part(at(damping), gradients, hessian),
        )

    with executor.stage("damping", 1):
        gradients = gradients_of(curvature.loss, executor)
        hessian = None if curvature.is_hessian else Hessian(curvature.loss, executor)
        chosen = executor.on_first(choose, hessian, "matvec")
        executor.advance()
    store.save("damping", {}, chosen.metadata())
    return chosen
