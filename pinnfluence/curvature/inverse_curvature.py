"""The inverse curvature of a loss, as a recipe asks for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
from pinnfluence.curvature.inverse import FullRank, Inverse, LowRank
from pinnfluence.curvature.operators import Curvature, GaussNewton, Hessian
from pinnfluence.curvature.recipe import AUTO, Recipe
from pinnfluence.progress import Stages
from pinnfluence.terms import Collocation

OPERATORS = {"hessian": Hessian, "gauss-newton": GaussNewton}


@dataclass(frozen=True)
class InverseCurvature:
    """A damped inverse and what is known of the matrix.

    inverse: ``(M + damping I)^-1``. pairs: its eigenpairs, damping included, where it has low rank.
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
) -> InverseCurvature:
    """The inverse curvature of ``L = sum_ik w_k r_k(z_i)^2`` that a recipe asks for.

    Raises:
        InputError: with figures: NaN, no convergence, no eigenvalue above the threshold, an
            indefinite or singular matrix.
    """
    curvature = OPERATORS[recipe.curvature](collocation, weights, batch_size)
    build = _full_rank if recipe.is_full else _low_rank
    return build(recipe, curvature, stages)


def expected_products(rank: int, n_params: int) -> int:
    """About how many products the eigenpairs need; at rank 50, 102 to 269 were counted."""
    return n_params if is_small(n_params, rank) else 3 * rank + 4


def _low_rank(recipe: Recipe, curvature: Curvature, stages: Stages) -> InverseCurvature:
    rank, automatic = int(recipe.rank), recipe.damping == AUTO
    shift = 0.0 if automatic else float(recipe.damping)
    threshold = 0.0 if automatic else recipe.threshold
    with stages.stage("eigenpairs", expected_products(rank, curvature.n_params)) as advance:
        pairs = top_eigenpairs(curvature, rank, shift, threshold, advance=advance)
    largest, chosen = float(pairs.values[0]) - shift, None
    if automatic:

        def inverse(damping: float) -> LowRank:
            return LowRank(replace(pairs, values=pairs.values + damping), damping)

        chosen = _choose(curvature, largest, min(0.0, pairs.most_negative), inverse, stages)
        shift = chosen.value
        pairs = keep_above(replace(pairs, values=pairs.values + shift), recipe.threshold)
    return InverseCurvature(
        LowRank(pairs, shift),
        pairs,
        largest,
        pairs.most_negative,
        curvature.n_products,
        chosen,
    )


def _full_rank(recipe: Recipe, curvature: Curvature, stages: Stages) -> InverseCurvature:
    n_steps = curvature.n_residuals if isinstance(curvature, GaussNewton) else curvature.n_params
    with stages.stage("curvature", n_steps) as advance:
        whole = FullRank(curvature, advance)
    made: list[Inverse] = []  # the last one: each holds a matrix

    def inverse(damping: float) -> Inverse:
        if not made or made[0].damping != damping:
            made.clear()
            made.append(whole.inverse(damping))
        return made[0]

    if recipe.damping == AUTO:
        chosen = _choose(curvature, whole.largest, min(0.0, whole.lowest), inverse, stages)
    else:
        chosen = None
    with stages.stage("factorisation", 1) as advance:
        found = inverse(chosen.value if chosen else float(recipe.damping))
        advance(1)
    return InverseCurvature(found, None, whole.largest, whole.lowest, curvature.n_products, chosen)


def _choose(
    curvature: Curvature, largest: float, lowest: float, inverse: Any, stages: Stages
) -> Damping:
    collocation, weights, size = curvature.collocation, curvature.weights, curvature.batch_size
    with stages.stage("damping", 1) as advance:
        gradients = signed_gradients(collocation, weights, size)
        exact = isinstance(curvature, Hessian)
        hessian = None if exact else Hessian(collocation, weights, size)
        chosen = automatic_damping(
            largest,
            lowest,
            rounding(collocation.pinn),
            lambda damping: doubts_of(inverse(damping), gradients, hessian),
        )
        advance(1)
    return chosen
