"""How points are chosen among candidates; imports no PyTorch, so that scripts know the names.

With ``|r|`` at the candidates:

- ``random``: uniform.
- ``rar``: those of the largest ``|r|`` (Lu et al., DeepXDE, arXiv 1907.04502).
- ``rard``: drawn with ``p ~ |r|^2 / mean |r|^2`` (Wu et al., arXiv 2207.10289).
- ``rad``: drawn with ``p ~ |r| / mean |r| + 1`` (Wu et al., arXiv 2207.10289).
- ``r3``: points above the mean ``|r|`` of all stay, the others are drawn anew (Daw et al., arXiv
  2207.02338: retain, resample, release).
- ``influence``: one after another, the one of the largest ``|r|`` that training on those before
  it would leave, or those that lower the estimated error of a quantity (``samplers.by_influence``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pinnfluence.errors import InputError

MODES = ("add", "replace")


@dataclass(frozen=True)
class Pool:
    """Candidates for new points.

    x: ``[n, n_inputs]``. residuals: ``|r| >= 0`` at each, ``[n]``. by_influence: from a number to
    the indices of at most so many that influence says.
    """

    x: np.ndarray
    residuals: np.ndarray
    by_influence: Callable[[int], np.ndarray]


@dataclass(frozen=True)
class Strategy:
    """One way to choose points.

    mode: ``add`` or ``replace``, where none is asked for. choose: from candidates, a number n and
    random numbers to the indices of n candidates. keeps: which of the present points stay when
    points are replaced, from their ``|r|``; None: none do. n_candidates: for each time.
    """

    mode: str
    choose: Callable[[Pool, int, np.random.Generator], np.ndarray]
    keeps: Callable[[np.ndarray], np.ndarray] | None = None
    n_candidates: int = 10_000


def weighted(weights: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """n indices, drawn one after another with probabilities ``p ~ weights``, without repetition.

    Those of weight 0 come last. The n smallest of exponential times with rates ``weights`` are such
    a draw (Efraimidis and Spirakis, 2006).
    """
    times = rng.standard_exponential(len(weights))
    with np.errstate(divide="ignore"):
        return np.lexsort((times, times / weights))[:n]


def _random(pool: Pool, n: int, rng: np.random.Generator) -> np.ndarray:
    return weighted(np.ones(len(pool.x)), n, rng)


def _rar(pool: Pool, n: int, rng: np.random.Generator) -> np.ndarray:
    return np.argsort(-pool.residuals, kind="stable")[:n]


def _rard(pool: Pool, n: int, rng: np.random.Generator) -> np.ndarray:
    return weighted(relative(pool.residuals) ** 2, n, rng)


def _rad(pool: Pool, n: int, rng: np.random.Generator) -> np.ndarray:
    return weighted(relative(pool.residuals) + 1, n, rng)


def _influence(pool: Pool, n: int, rng: np.random.Generator) -> np.ndarray:
    """Where influence says fewer than n, the others are drawn as by ``rard``."""
    chosen = pool.by_influence(n)
    rest = _rard(pool, len(pool.x), rng)
    return np.concatenate([chosen, rest[~np.isin(rest, chosen)][: n - len(chosen)]])


def relative(sizes: np.ndarray) -> np.ndarray:
    """``sizes / mean(sizes)``; all 1 where they are 0 everywhere."""
    mean = sizes.mean()
    return sizes / mean if mean > 0 else np.ones_like(sizes)


def above_mean(residuals: np.ndarray) -> np.ndarray:
    """Mask ``[n]`` of the residuals above their mean."""
    mask: np.ndarray = residuals > residuals.mean()
    return mask


STRATEGIES = {
    "influence": Strategy("add", _influence, n_candidates=1000),
    "rar": Strategy("add", _rar),
    "rard": Strategy("add", _rard),
    "rad": Strategy("replace", _rad),
    "r3": Strategy("replace", _random, above_mean),
    "random": Strategy("replace", _random),
}
"""All strategies by name."""


def strategy_of(name: str, mode: str | None) -> tuple[Strategy, str]:
    """The strategy of a name, and the mode that is asked for, or its own.

    Raises:
        InputError: no such strategy or mode, or a strategy that replaces points by its nature.
    """
    if name not in STRATEGIES:
        raise InputError(f"no sampler {name!r}, expected one of {', '.join(STRATEGIES)}")
    strategy = STRATEGIES[name]
    mode = mode or strategy.mode
    if mode not in MODES:
        raise InputError(f"no mode {mode!r} of a sampler, expected one of {', '.join(MODES)}")
    if mode == "add" and strategy.keeps is not None:
        raise InputError(
            f"{name} keeps points of large residual and replaces the others: expected mode "
            "replace, found add"
        )
    return strategy, mode
