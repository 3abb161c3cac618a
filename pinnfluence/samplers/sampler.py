"""Other training points for a network, chosen by a strategy among fresh candidates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pinnfluence.errors import InputError
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import Collocation, Pinn
from pinnfluence.models.deepxde.drawing import Draw
from pinnfluence.samplers.strategies import Pool, strategy_of

BATCH_SIZE = 1000

N_ADDED = 10
"""Points that are added each time where no number is given."""


class Chooser(Protocol):
    """The strategy ``influence``: which candidates would help a network most."""

    def __call__(
        self, pinn: Pinn, points: np.ndarray, candidates: np.ndarray, n: int, seed: int
    ) -> tuple[np.ndarray, int | None]:
        """Indices of at most n candidates; and how many lower the error of a quantity, if any."""
        ...


@dataclass(frozen=True)
class Resampling:
    """What a sampler did: which points stay, which are new, and how large the residuals were.

    step: iterations of the training before it. kept: mask of the points that stay, ``[n_before]``.
    points: the new ones, ``[n, n_inputs]``. residuals, chosen: ``|r|`` at the candidates and at the
    new points. helpful: of the strategy ``influence`` for a quantity, how many were chosen because
    they lower its estimated error.
    """

    step: int
    strategy: str
    mode: str
    kept: np.ndarray
    points: np.ndarray
    residuals: np.ndarray
    chosen: np.ndarray
    helpful: int | None = None

    @property
    def number(self) -> int:
        """Number of new points."""
        return len(self.points)

    def of(self, before: np.ndarray) -> np.ndarray:
        """The points to train on from now on, from those before ``[n_before, n_inputs]``."""
        return np.concatenate([before[self.kept], self.points.astype(before.dtype)])

    def __str__(self) -> str:
        """One line: what was done, and why."""
        done = "added" if self.mode == "add" else "placed anew"
        sizes = (self.residuals.mean(), self.residuals.max(), self.chosen.mean())
        means = "candidates: mean {:.2e}, largest {:.2e}; chosen: mean {:.2e}"
        why = "" if self.helpful is None else f" ({self.helpful} lower the estimated error)"
        return (
            f"step {self.step}: {self.number} points {done} by {self.strategy}{why}, "
            f"{self.kept.sum()} kept; |r| of {means.format(*sizes)}"
        )


@dataclass(frozen=True)
class Sampler:
    """Chooses training points inside the domain anew, every so many iterations.

    The points on which a condition acts stay. Each time it draws candidates inside the domain and
    takes those that the strategy chooses. What is drawn depends on the seed and the step alone.

    Args:
        strategy: see ``strategies``.
        draw: draws candidates, see ``models.deepxde.drawing``.
        every: iterations between two times.
        n: points that are added each time, default 10; or, where points are replaced, that there
            are inside the domain afterwards, default as many as before.
        mode: ``add`` or ``replace``; default: the strategy's own.
        seed: of candidates and choice.
        n_candidates: drawn each time; default: the strategy's own number, at least 2 n.
        by_influence: the strategy ``influence``.

    Raises:
        InputError: unknown names, or numbers that cannot be.
    """

    strategy: str
    draw: Draw
    every: int
    n: int | None = None
    mode: str | None = None
    seed: int = 0
    n_candidates: int | None = None
    by_influence: Chooser | None = None

    def __post_init__(self) -> None:
        strategy_of(self.strategy, self.mode)
        for what, number in (("every", self.every), ("points", self.n)):
            if number is not None and number < 1:
                raise InputError(f"expected {what} of a sampler from 1, found {number}")
        if self.n_candidates is not None and self.n_candidates < (self.n or 1):
            raise InputError(
                f"expected at least as many candidates as points, found {self.n_candidates} "
                f"candidates for {self.n or 1} points"
            )
        if self.seed < 0:
            raise InputError(f"expected a seed from 0, found {self.seed}")

    def resample(self, pinn: Pinn, points: np.ndarray, step: int) -> Resampling:
        """What to do with the training points ``[n, n_inputs]`` of a network after a step.

        Raises:
            InputError: residuals that are not finite, or fewer candidates than points to choose.
        """
        strategy, mode = strategy_of(self.strategy, self.mode)
        rng = np.random.default_rng([self.seed, step])
        inside = ~acted_on(pinn.at(points))
        kept, n = np.ones(len(points), bool), self.n or N_ADDED
        if mode == "replace":
            n = int(inside.sum()) if self.n is None else self.n
            kept = ~inside
            if strategy.keeps is not None and inside.any():
                own = strategy.keeps(residuals(pinn, points[inside]))
                kept[inside] = own & (np.cumsum(own) <= n)
            n -= int(kept[inside].sum())
        seeds = rng.integers(2**32, size=2)
        n_candidates = self.n_candidates or max(strategy.n_candidates, 2 * n)
        x = self.draw(n_candidates, int(seeds[0]))
        if len(x) < n:
            raise InputError(f"expected at least {n} candidates, found {len(x)}")
        sizes = residuals(pinn, x)

        helpful: list[int | None] = [None]

        def by_influence(n: int) -> np.ndarray:
            assert self.by_influence is not None
            indices, helpful[0] = self.by_influence(pinn, points[kept], x, n, int(seeds[1]))
            return indices

        chosen = strategy.choose(Pool(x, sizes, by_influence), n, rng)
        return Resampling(
            step, self.strategy, mode, kept, x[chosen], sizes, sizes[chosen], helpful[0]
        )


def acted_on(collocation: Collocation) -> np.ndarray:
    """Mask ``[n]`` of the points on which something else than the equation of the domain acts."""
    mask = np.zeros(len(collocation), bool)
    for equation, rows in zip(collocation.equations, collocation.points.rows, strict=True):
        if equation.group != "pde":
            mask[rows] = True
    return mask


def residuals(pinn: Pinn, x: np.ndarray) -> np.ndarray:
    """``|r| = (sum_k c_k r_k(x)^2)^1/2`` over the equations of the domain, with the loss weights.

    Args:
        x: ``[n, n_inputs]``.

    Returns:
        ``[n]``, float64.

    Raises:
        InputError: no such equation; NaN or infinity.
    """
    equations = [equation for equation in pinn.equations if equation.group == "pde"]
    if not equations:
        raise InputError("expected an equation in the domain, found conditions and data alone")
    weights = {name: pinn.loss_weights.get(name, 1.0) for name in pinn.terms}
    sizes = np.sqrt(Loss(pinn.at(x, equations), weights).density(BATCH_SIZE))
    if not np.isfinite(sizes).all():
        raise InputError("residuals at the candidates are NaN or infinite: the training diverged")
    return sizes
