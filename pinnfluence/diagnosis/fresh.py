"""Fresh points: drawn as those of the training were, more of them where the residuals are large."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pinnfluence.diagnosis.point_loss import PointLoss
from pinnfluence.diagnosis.sampler import sampler_of
from pinnfluence.diagnosis.widened import N_ADDED
from pinnfluence.errors import InputError
from pinnfluence.influence.candidates import equations_at
from pinnfluence.loss.pinn import Collocation, Pinn
from pinnfluence.loss.points import PointSet
from pinnfluence.models.deepxde.drawing import Draw
from pinnfluence.runtime.warn_once import warn_once
from pinnfluence.storage.point_checks import among

POOL = 5
"""Candidates for each fresh point."""

UNIFORM = 0.5
"""Part of the fresh points that is spread as the training's were, whatever the residuals are."""

POWER = 0.25
"""The other part is drawn in proportion to this power of the loss of a point."""

RARE = 0.1
"""See ``FreshPoints.undrawn``."""

FOR_EACH = 3
"""Points for each parameter of a wider network, where they are drawn again."""

MOST_WORK = 5e12
"""Multiplications that the matrix of the fresh points may cost, which limits their number."""


Importance = Callable[[PointLoss], np.ndarray]
"""Of each point of a loss a number of at least 0, ``[n]``."""


@dataclass(frozen=True)
class FreshPoints:
    """Points on which the network was not trained, and how many others each stands for.

    collocation: the equations at these points. counts: by how many points of the pool each is to be
    multiplied, ``[n]``. n_pool: number of points of the pool on which each loss term acts, by name.
    """

    collocation: Collocation
    counts: np.ndarray
    n_pool: Mapping[str, int]

    @classmethod
    def all_of(cls, collocation: Collocation) -> FreshPoints:
        """Points that all count once."""
        n_pool = {name: len(rows) for name, rows in collocation.term_rows().items()}
        return cls(collocation, np.ones(len(collocation)), n_pool)

    @property
    def x(self) -> np.ndarray:
        """The points ``[n, n_inputs]``."""
        return self.collocation.x

    def subset(self, chosen: np.ndarray, factor: float | np.ndarray) -> FreshPoints:
        """Some of the points, by their indices in rising order, each to count more often."""
        return FreshPoints(
            self.collocation.subset(chosen), self.counts[chosen] * factor, self.n_pool
        )

    def undrawn(self, training: Collocation) -> list[int]:
        """Numbers of the conditions whose points the sampler hits by chance alone, if at all.

        That is, of which the pool has less than ``RARE`` of the part that the training has.
        """
        names, points = self.collocation.names, training.points
        n_pool = max(1, *self.n_pool.values())
        return [
            k
            for k, equation in enumerate(self.collocation.equations)
            if equation.group != "pde"
            and self.n_pool[names[k][0]] / n_pool < RARE * len(points.rows[k]) / len(points)
        ]

    def with_trained(self, training: Collocation, numbers: Sequence[int]) -> FreshPoints:
        """These points, and of some conditions those of the training in the place of theirs.

        Measurements, or a value at one place, are all that is known there: the solution keeps them.
        """
        own, fresh = training.points, self.collocation.points
        used = np.unique(np.concatenate([np.zeros(0, int), *(own.rows[k] for k in numbers)]))
        rows, data, images = list(fresh.rows), list(fresh.data), list(fresh.images)
        n_pool = dict(self.n_pool)
        for k in numbers:
            rows[k] = len(fresh) + np.searchsorted(used, own.rows[k])
            data[k], images[k] = own.data[k], own.images[k]
            n_pool |= dict.fromkeys(training.names[k], len(own.rows[k]))
        x = np.concatenate([fresh.x, own.x[used]])
        points = PointSet(x, tuple(rows), tuple(data), tuple(images))
        counts = np.concatenate([self.counts, np.ones(len(used))])
        return FreshPoints(replace(self.collocation, points=points), counts, n_pool)

    @property
    def loss(self) -> PointLoss:
        """The loss at these points: an estimate of that at all points of the pool.

        ``w_ik = c_k counts_i / |S_k|`` with |S_k| of the pool.
        """
        given = self.collocation.pinn.loss_weights
        weights = {
            name: given.get(name, 1.0) * self.counts[rows] / max(1, self.n_pool[name])
            for name, rows in self.collocation.term_rows().items()
        }
        return PointLoss(self.collocation, weights)


def draw(
    pinn: Pinn, sampler: Draw, n: int, seed: int, importance: Importance | None = None
) -> FreshPoints:
    """About n fresh points: some of a pool, chosen with probabilities that grow with their loss.

    A network that was trained on few points has its largest residuals in small regions between
    them, which uniform points meet by chance. Point i of the pool is chosen with the probability
    ``pi_i = min(1, a (UNIFORM / n_pool + (1 - UNIFORM) l_i^POWER / sum_j l_j^POWER))``, a such that
    n are expected, by systematic sampling in a random order; a chosen point counts ``1 / pi_i``
    times, so that sums over the pool are estimated without bias (Horvitz and Thompson, 1952).

    Args:
        importance: gives numbers ``[n_pool]``, in proportion to which half of the points is chosen.
    """
    pool = sampler(POOL * n, seed)
    whole = FreshPoints.all_of(pinn.at(pool))
    part = whole.loss.point_losses() ** POWER
    total = float(part.sum())
    shares = np.full(len(pool), 1 / len(pool))
    if total > 0 and np.isfinite(total):
        shares = UNIFORM * shares + (1 - UNIFORM) * part / total
    if importance is not None:
        given = importance(whole.loss)
        shares = (shares + given / given.sum()) / 2
    chances = _inclusion(shares, min(n, len(pool)))
    chosen = _systematic(chances, np.random.default_rng(seed))
    return whole.subset(chosen, 1 / chances[chosen])


def draw_sets(
    pinn: Pinn,
    sampler: Draw,
    sizes: Sequence[int],
    seeds: Sequence[int],
    training: Collocation | None,
) -> list[FreshPoints]:
    """Fresh points in several sets, of given sizes and seeds; see ``draw``.

    Conditions whose points the sampler hits by chance alone keep those of the training, where it
    is known.
    """
    drawn = [draw(pinn, sampler, n, seed) for n, seed in zip(sizes, seeds, strict=True)]
    if training is None:
        return drawn
    return [points.with_trained(training, points.undrawn(training)) for points in drawn]


def split(points: FreshPoints, seed: int, part: float = 2 / 3) -> tuple[FreshPoints, FreshPoints]:
    """Two sets of given points, by chance."""
    order = np.random.default_rng(seed).permutation(len(points.x))
    n = round(part * len(order))
    sets = np.sort(order[:n]), np.sort(order[n:])
    first, second = (points.subset(i, len(order) / len(i)) for i in sets)
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


@dataclass(frozen=True)
class FreshSets:
    """A set of fresh points for the estimate and one to check it, about half as many.

    redraw: draws both again, half of their points in proportion to an importance; None: they were
    given.
    """

    fit: FreshPoints
    check: FreshPoints
    redraw: Callable[[Importance], FreshSets] | None = field(default=None, kw_only=True)


def fresh_sets(
    model: Any,
    pinn: Pinn,
    train_x: np.ndarray,
    n: int | None,
    given: np.ndarray | Pinn | None,
    seed: int,
) -> FreshSets:
    """Both sets, given or drawn.

    Args:
        n: number of points of the first set; None: see ``diagnose``.
        given: points of the user's own, of which both are made; None: they are drawn.

    Raises:
        InputError: given points that do not fit or were trained on; a loss term without any.
    """
    training = pinn.at(train_x)
    if given is not None:
        found, own = _given(pinn, train_x, given)
        sets = _divided(found, training, own, seed)
    else:
        number = n or _n_fresh(pinn, train_x)
        sampler = sampler_of(model)

        def redraw(importance: Importance) -> FreshSets:
            more = n or max(number, FOR_EACH * (pinn.n_params + N_ADDED))
            both = draw(pinn, sampler, more + more // 2, 2 * seed, importance)
            return _divided(both, training, both.undrawn(training), seed)

        seeds = 2 * seed, 2 * seed + 1
        drawn = draw_sets(pinn, sampler, (number, number // 2), seeds, training)
        sets = FreshSets(*drawn, redraw=redraw)
    for points in (sets.fit, sets.check):
        if missing := points.collocation.missing:
            raise InputError(
                f"no fresh point for loss term {', '.join(missing)}: give more with "
                "--fresh, or points of your own that have some, of measurements those of the "
                "training"
            )
    return sets


def _divided(
    points: FreshPoints, training: Collocation, numbers: Sequence[int], seed: int
) -> FreshSets:
    """Points in two sets by chance; both with those of the training of some conditions."""
    return FreshSets(*(part.with_trained(training, numbers) for part in split(points, seed)))


def _given(
    pinn: Pinn, train_x: np.ndarray, given: np.ndarray | Pinn
) -> tuple[FreshPoints, list[int]]:
    """Points of the user's own, and the numbers of conditions of which all were trained on.

    The points of these conditions are left out.
    """
    found = equations_at(pinn, given, "fresh")
    seen = among(found.x, train_x)
    rows = found.points.rows
    own = [
        k
        for k, equation in enumerate(found.equations)
        if equation.group != "pde" and len(rows[k]) and seen[rows[k]].all()
    ]
    places = np.concatenate([np.zeros(0, int), *(rows[k] for k in own)])
    rest = np.setdiff1d(np.arange(len(seen)), places)
    if len(rest) == 0 or seen[rest].any():
        terms = [name for name, here in found.term_rows().items() if seen[here].any()]
        raise InputError(
            f"expected fresh points, found {int(seen.sum())} that were trained on, of loss terms "
            f"{', '.join(terms)}: draw others in their place"
        )
    if own:
        warn_once(
            pinn.network,
            f"all fresh points of {', '.join(found.names[k][0] for k in own)} were trained on, as "
            "those of measurements are: errors between them are not seen",
        )
    return FreshPoints.all_of(found.subset(rest)), own


def _n_fresh(pinn: Pinn, train_x: np.ndarray) -> int:
    rows_a_point = sum(map(len, pinn.at(train_x).term_rows().values())) / len(train_x)
    most = MOST_WORK / pinn.n_params**2 / rows_a_point
    return round(min(most, max(2 * len(train_x), pinn.n_params / 2, 1000)))
