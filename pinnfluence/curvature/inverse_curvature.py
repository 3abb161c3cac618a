"""The inverse curvature of a loss, as a recipe asks for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from pinnfluence.curvature.damping import (
    Damping,
    automatic_damping,
    doubts_of,
    rounding,
    signed_gradients,
)
from pinnfluence.curvature.eigenpairs import Eigenpairs, is_small, keep_above, top_eigenpairs
from pinnfluence.curvature.factorisations import Elsewhere, FullRank, Inverse, LowRank
from pinnfluence.curvature.operators import OPERATORS, Curvature, Hessian
from pinnfluence.curvature.recipe import AUTO, Recipe
from pinnfluence.loss.collocation import Collocation
from pinnfluence.runtime import distributed
from pinnfluence.runtime.progress import Stages
from pinnfluence.storage.stage_store import CLOSED, StageStore


@dataclass(frozen=True)
class InverseCurvature:
    """A damped inverse and what is known of the matrix.

    inverse: ``(M + damping I)^-1``; at full rank, only the first of several processes has it.
    pairs: its eigenpairs, damping included, where it has low rank.
    largest, most_negative: extreme eigenvalues of M; of low rank, those that were seen.
    n_products: products with M. chosen: how the damping was found, if automatically.
    """

    inverse: Inverse
    pairs: Eigenpairs | None
    largest: float
    most_negative: float
    n_products: int
    chosen: Damping | None

    @property
    def eigenvalues(self) -> np.ndarray:
        """Eigenvalues that are inverted, ``[rank]``; none where the whole matrix is."""
        return np.zeros(0) if self.pairs is None else self.pairs.values

    def metadata(self) -> dict[str, Any]:
        """What a score file says about it."""
        found: dict[str, Any] = {"n_products": self.n_products, "damping": self.inverse.damping}
        return found | ({"automatic_damping": self.chosen.metadata()} if self.chosen else {})


def invert(
    recipe: Recipe,
    collocation: Collocation,
    weights: dict[str, float],
    batch_size: int,
    stages: Stages,
    store: StageStore = CLOSED,
) -> InverseCurvature:
    """The inverse curvature of ``L = sum_ik w_k r_k(z_i)^2`` that a recipe asks for.

    A store keeps the eigenpairs (ARPACK begins again where it was interrupted); of full rank the
    matrix, also while it is summed, and the damping that was chosen. The factors are made again.

    Raises:
        InputError: with figures: NaN, no convergence, no eigenvalue above the threshold, an
            indefinite or singular matrix.
    """
    curvature = OPERATORS[recipe.curvature](collocation, weights, batch_size)
    build = _full_rank if recipe.is_full else _low_rank
    return build(recipe, curvature, stages, store)


def expected_products(rank: int, n_params: int) -> int:
    """About how many products the eigenpairs need; 154 for rank 50, 102 to 273 were counted."""
    return n_params if is_small(n_params, rank) else 3 * rank + 4


def _low_rank(
    recipe: Recipe, curvature: Curvature, stages: Stages, store: StageStore
) -> InverseCurvature:
    shift, automatic = _shift(recipe), recipe.damping == AUTO
    saved = distributed.from_first(store.load("eigenpairs"))
    if saved:
        stages.found("eigenpairs")
        pairs = Eigenpairs(**{**saved.arrays, **saved.facts})
    else:
        pairs = _eigenpairs(recipe, curvature, stages)
        # in the order of a file: else products with what was saved would round otherwise
        pairs = replace(pairs, vectors=np.ascontiguousarray(pairs.vectors))
        facts = {"most_negative": pairs.most_negative, "n_products": pairs.n_products}
        arrays = {"values": pairs.values, "vectors": pairs.vectors}
        store.save("eigenpairs", arrays, facts)
    largest, chosen = float(pairs.values[0]) - shift, None
    if automatic:

        def inverse(damping: float) -> LowRank:
            return LowRank(replace(pairs, values=pairs.values + damping), damping)

        lowest = min(0.0, pairs.most_negative)
        chosen = _choose(curvature, largest, lowest, inverse, stages, store)
        shift = chosen.value
        pairs = keep_above(replace(pairs, values=pairs.values + shift), recipe.threshold)
    return InverseCurvature(
        LowRank(pairs, shift),
        pairs,
        largest,
        pairs.most_negative,
        pairs.n_products,
        chosen,
    )


def _shift(recipe: Recipe) -> float:
    return 0.0 if recipe.damping == AUTO else float(recipe.damping)


def _eigenpairs(recipe: Recipe, curvature: Curvature, stages: Stages) -> Eigenpairs:
    rank = int(recipe.rank)
    threshold = 0.0 if recipe.damping == AUTO else recipe.threshold
    small = is_small(curvature.n_params, rank)  # the dense matrix, in which all take part alike
    n_steps = curvature.n_steps if small else expected_products(rank, curvature.n_params)
    with stages.stage("eigenpairs", n_steps) as advance:
        find = partial(
            top_eigenpairs,
            rank=rank,
            shift=_shift(recipe),
            threshold=threshold,
            advance=advance,
        )
        if small:
            return distributed.from_first(find(curvature))
        return distributed.led(find, curvature, "matvec")


def _full_rank(
    recipe: Recipe, curvature: Curvature, stages: Stages, store: StageStore
) -> InverseCurvature:
    with stages.stage("curvature", curvature.n_steps) as advance:
        whole = FullRank(curvature, advance, store=store)
    made: list[Inverse] = []  # the last one: each holds a matrix

    def inverse(damping: float) -> Inverse:
        if not made or made[0].damping != damping:
            made.clear()
            made.append(whole.inverse(damping))
        return made[0]

    damping, chosen = _shift(recipe), None
    if recipe.damping == AUTO:
        lowest = min(0.0, whole.lowest)
        chosen = _choose(curvature, whole.largest, lowest, inverse, stages, store)
        damping = chosen.value
    with stages.stage("factorisation", 1) as advance:
        found = inverse(damping) if distributed.is_first() else Elsewhere(damping)
        advance(1)
    return InverseCurvature(found, None, whole.largest, whole.lowest, curvature.n_products, chosen)


def _choose(
    curvature: Curvature,
    largest: float,
    lowest: float,
    inverse: Callable[[float], Inverse],
    stages: Stages,
    store: StageStore,
) -> Damping:
    saved = distributed.from_first(store.load("damping"))
    if saved:
        stages.found("damping")
        return Damping.of(saved.facts)
    collocation, weights, size = curvature.collocation, curvature.weights, curvature.batch_size

    def choose(hessian: Curvature | None) -> Damping:
        return automatic_damping(
            largest,
            lowest,
            rounding(collocation.pinn),
            lambda damping: doubts_of(inverse(damping), gradients, hessian),
        )

    with stages.stage("damping", 1) as advance:
        gradients = signed_gradients(collocation, weights, size)
        hessian = None if curvature.is_hessian else Hessian(collocation, weights, size)
        chosen = distributed.led(choose, hessian, "matvec")
        advance(1)
    store.save("damping", {}, chosen.metadata())
    return chosen
