"""Fresh points: drawn as those of the training were, more of them where the residuals are large."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pinnfluence.diagnosis.point_loss import PointLoss
from pinnfluence.errors import InputError
from pinnfluence.loss.pinn import Pinn
from pinnfluence.problem.parts import NUMBERS

POOL = 5
"""Candidates for each fresh point."""

UNIFORM = 0.5
"""Part of the fresh points that is spread as the training's were, whatever the residuals are."""

POWER = 0.25
"""The other part is drawn in proportion to this power of the loss of a point."""

Sampler = Callable[[int, int], np.ndarray]
"""From a number of points and a seed to about that many points ``[n, n_inputs]``, float32."""


@dataclass(frozen=True)
class FreshPoints:
    """Points on which the network was not trained, and how many others each stands for.

    x: ``[n, n_inputs]``. counts: by how many points of the pool each is to be multiplied, ``[n]``.
    n_pool: number of points of the pool on which each loss term acts, by name.
    """

    x: np.ndarray
    counts: np.ndarray
    n_pool: Mapping[str, int]

    def loss(self, pinn: Pinn) -> PointLoss:
        """The loss at these points: an estimate of that at all points of the pool.

        ``w_ik = c_k counts_i / |S_k|`` with |S_k| of the pool.
        """
        collocation = pinn.at(self.x)
        weights = {
            name: pinn.loss_weights.get(name, 1.0) * self.counts[rows] / max(1, self.n_pool[name])
            for name, rows in collocation.term_rows().items()
        }
        return PointLoss(collocation, weights)


def draw(pinn: Pinn, sampler: Sampler, n: int, seed: int) -> FreshPoints:
    """About n fresh points: some of a pool, chosen with probabilities that grow with their loss.

    A network that was trained on few points has its largest residuals in small regions between
    them, which uniform points meet by chance. Point i of the pool is chosen with the probability
    ``pi_i = min(1, a (UNIFORM / n_pool + (1 - UNIFORM) l_i^POWER / sum_j l_j^POWER))``, a such that
    n are expected, by systematic sampling in a random order; a chosen point counts ``1 / pi_i``
    times, so that sums over the pool are estimated without bias (Horvitz and Thompson, 1952).
    """
    pool = sampler(POOL * n, seed)
    whole = everywhere(pinn, pool)
    part = whole.loss(pinn).point_losses() ** POWER
    total = float(part.sum())
    shares = np.full(len(pool), 1 / len(pool))
    if total > 0 and np.isfinite(total):
        shares = UNIFORM * shares + (1 - UNIFORM) * part / total
    chances = _inclusion(shares, min(n, len(pool)))
    chosen = _systematic(chances, np.random.default_rng(seed))
    return FreshPoints(pool[chosen], 1 / chances[chosen], whole.n_pool)


def everywhere(pinn: Pinn, x: np.ndarray) -> FreshPoints:
    """Points that all count once."""
    rows = pinn.at(x).term_rows()
    return FreshPoints(x, np.ones(len(x)), {name: len(r) for name, r in rows.items()})


def split(points: FreshPoints, seed: int, part: float = 2 / 3) -> tuple[FreshPoints, FreshPoints]:
    """Two sets of given points, by chance."""
    order = np.random.default_rng(seed).permutation(len(points.x))
    n = round(part * len(order))
    sets = np.sort(order[:n]), np.sort(order[n:])
    first, second = (
        replace(points, x=points.x[i], counts=points.counts[i] * len(order) / len(i)) for i in sets
    )
    return first, second


def _inclusion(shares: np.ndarray, n: int) -> np.ndarray:
    """``min(1, a shares)`` whose sum is n."""
    factor = float(n)
    for _ in range(100):
        chances = np.minimum(1, factor * shares)
        if abs(chances.sum() - n) < 1e-9 * n:
            break
        factor *= n / chances.sum()
    return chances


def _systematic(chances: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Indices that are chosen with these probabilities, in rising order."""
    order = rng.permutation(len(chances))
    ends = np.cumsum(chances[order]) + rng.random()
    taken = np.floor(ends) > np.floor(ends - chances[order])
    return np.sort(order[taken])


def sampler_of(model: Any, inside: bool = False) -> Sampler:
    """Draws points as the training of a ``TrainedModel`` or a ``dde.Model`` did.

    Pseudo-random ones: DeepXDE's Hammersley points do not depend on the seed.

    Args:
        inside: only points inside the domain, uniformly, for averages over it.

    Raises:
        InputError: nothing says where its points came from.
    """
    from pinnfluence.models.deepxde.model import geometry  # DeepXDE takes seconds to import

    if hasattr(model, "problem"):
        numbers = model.problem.sampling.numbers | {
            name: n for name, n in model.config.stated().items() if name in NUMBERS
        }
        return _sampler(geometry(model.problem.domain), [numbers[n] for n in reversed(NUMBERS)])
    data: Any = getattr(model, "data", None)
    if data is None or getattr(data, "geom", None) is None:
        raise InputError(
            "expected a model whose points can be drawn anew, found one without a domain: give "
            "fresh points of your own"
        )
    numbers = [getattr(data, name, 0) or 0 for name in reversed(NUMBERS)]
    return _sampler(data.geom, [0, 0, 1] if inside else numbers)


def _sampler(geometry: Any, numbers: list[int]) -> Sampler:
    """``numbers`` of initial, boundary and domain points give the proportions."""
    names = ("random_initial_points", "random_boundary_points", "random_points")

    def sample(n: int, seed: int) -> np.ndarray:
        factor = n / max(1, sum(numbers))
        with _numpy_seed(seed):
            parts = [
                getattr(geometry, name)(round(factor * number), "pseudo")
                for name, number in zip(names, numbers, strict=True)
                if number
            ]
        return np.concatenate(parts).astype(np.float32)

    return sample


@contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    """DeepXDE draws from NumPy's global generator: seed it, and leave it as it was."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
