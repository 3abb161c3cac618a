"""How well predicted changes agree with actual ones: correlations, scale, their uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

N_RESAMPLES = 1000
INTERVAL = (2.5, 97.5)
"""Percentiles of the bootstrap: an interval of 95 %."""


@dataclass(frozen=True)
class Figure:
    """A statistic, and its bootstrap interval of 95 % over the removed groups."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Agreement:
    """Agreement of predicted with actual changes, ``[n_groups, n_test]``.

    pearson, spearman, slope: pooled over all pairs; the slope is that of actual on predicted
    changes through the origin, ``sum a p / sum p^2``: 1 where the scale is right, below where
    changes are predicted too large. by_group, by_test: Spearman's correlation of each removed
    group over the test points and of each test point over the groups, as median and 5 % quantile.
    """

    pearson: Figure
    spearman: Figure
    slope: Figure
    by_group: tuple[float, float]
    by_test: tuple[float, float]
    n_groups: int


def agreement(predicted: np.ndarray, actual: np.ndarray, seed: int = 0) -> Agreement:
    """Compare ``[n_groups, n_test]`` of predicted with actual changes.

    The bootstrap draws groups again with all their test points. Ranks are those of the whole.
    """
    predicted, actual = np.asarray(predicted, np.float64), np.asarray(actual, np.float64)
    ranks_p, ranks_a = (rankdata(a).reshape(a.shape) for a in (predicted, actual))
    n = len(predicted)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), N_RESAMPLES)
    counts = np.vstack([np.ones(n), counts])
    products = counts @ (predicted * actual).sum(1)
    squares = counts @ np.square(predicted).sum(1)
    return Agreement(
        _figure(_pearson(predicted, actual, counts)),
        _figure(_pearson(ranks_p, ranks_a, counts)),
        _figure(_ratio(products, squares)),
        _spread(rank_correlations(predicted, actual)),
        _spread(rank_correlations(predicted.T, actual.T)),
        n,
    )


def rank_correlations(predicted: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """Spearman's correlation of each row of ``[n, m]``, ``[n]``; nan where a row is constant."""
    ranks = [rankdata(a, axis=1) for a in (predicted, actual)]
    p, a = (r - r.mean(1, keepdims=True) for r in ranks)
    return _ratio((p * a).sum(1), np.sqrt(np.square(p).sum(1) * np.square(a).sum(1)))


def datamodeling_score(predicted: np.ndarray, actual: np.ndarray, seed: int = 0) -> Figure:
    """Linear datamodeling score of ``[n_subsets, n_test]``.

    Mean over the test points of Spearman's correlation, over random subsets of the training points,
    of the sum of scores of the removed points with the actual change; interval over test points.

    Source: Park et al., TRAK, arXiv 2303.14186.
    """
    scores = rank_correlations(predicted.T, actual.T)
    scores = scores[np.isfinite(scores)]
    drawn = np.random.default_rng(seed).choice(scores, (N_RESAMPLES, len(scores)))
    return Figure(float(scores.mean()), *map(float, np.percentile(drawn.mean(1), INTERVAL)))


def _pearson(p: np.ndarray, a: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Pearson's correlation over all pairs, with each row as often as counted, ``[n_counts]``."""
    p, a = p - p.mean(), a - a.mean()  # else squares of large means would cancel
    n = counts.sum(1) * p.shape[1]
    sum_p, sum_a = counts @ p.sum(1), counts @ a.sum(1)
    covariance = counts @ (p * a).sum(1) - sum_p * sum_a / n
    variances = [counts @ np.square(x).sum(1) - s**2 / n for x, s in ((p, sum_p), (a, sum_a))]
    return _ratio(covariance, np.sqrt(np.maximum(variances[0] * variances[1], 0)))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)


def _figure(values: np.ndarray) -> Figure:
    """The first is that of all rows, the others are of the bootstrap."""
    rest = values[1:][np.isfinite(values[1:])]
    low, high = np.percentile(rest, INTERVAL) if rest.size else (np.nan, np.nan)
    return Figure(float(values[0]), float(low), float(high))


def _spread(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return np.nan, np.nan
    return float(np.median(finite)), float(np.percentile(finite, 5))
