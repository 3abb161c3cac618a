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
    damped = _Damped(method, loss.weight_decay)
    chosen = _choose(damped) if recipe.is_automatic else None
    damping = chosen.value if chosen else float(recipe.damping)
    damped.prepare(damping)
    at = damped.at
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
        raise InputError("only the first of several processes has the inverse; start a single one")


class _Damped:
    """The inverses of a method at dampings, of which the last is held: each may hold a matrix."""

    def __init__(self, method: InverseMethod, weight_decay: float) -> None:
        self.method, self._decay = method, weight_decay
        self._last: list[Inverse] = []

    def at(self, damping: float) -> Inverse:
        """The inverse with a damping beside the weight decay."""
        if not self._last or self._last[0].damping != damping + self._decay:
            self._last.clear()
            self._last.append(self.method.at(damping + self._decay))
        return self._last[0]

    def prepare(self, damping: float) -> None:
        """Refine the method for a damping, where it does that."""
        if self.method.refines:
            self._last.clear()
            self.method.prepare(damping + self._decay)


def _choose(damped: _Damped) -> Damping:
    """The damping by the rule of ``curvature.damping``, or as the store has it.

    A method that refines its factor does that first for the damping by what is open alone.
    """
    method = damped.method
    executor, store, loss = method.executor, method.store, method.curvature.loss
    saved = executor.from_first(store.load("damping"))
    if saved:
        executor.stages.kept("damping")
        return Damping.of(saved.facts)

    def rule(neglected_at: Callable[[float], float]) -> Damping:
        lowest = min(0.0, method.lowest)
        settings = method.largest, lowest, rounding(loss.pinn)
        return automatic_damping(
            *settings, lambda d: open_part(damped.at(d), gradients), neglected_at
        )

    def choose(hessian: Curvature | None) -> Damping:
        return rule(lambda d: neglected_part(damped.at(d), gradients, hessian))

    with executor.stage("gradients", len(loss) // executor.n_processes):
        gradients = gradients_of(loss, executor)
    if method.refines:
        damped.prepare(executor.on_first(lambda _: rule(lambda d: 0.0).value))
    with executor.stage("damping", 1):
        hessian = None if method.curvature.is_hessian else Hessian(loss, executor, False)
        chosen = executor.on_first(choose, hessian, "matmat")
        executor.advance()
    store.save("damping", {}, chosen.metadata())
    return chosen
