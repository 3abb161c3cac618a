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
    """A statistic, and its bootstrap interval of 95 %."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Spread:
    """One correlation for each of many rows: the median of them, and their 5 % quantile."""

    median: Figure
    low: float

    def __str__(self) -> str:
        return f"{self.median} {self.low:6.3f}"


@dataclass(frozen=True)
class Agreement:
    """Agreement of predicted with actual changes, ``[n_groups, n_test]``.

    pearson, spearman, slope: pooled over all pairs; the slope is that of actual on predicted
    changes through the origin, ``sum a p / sum p^2``: 1 where the scale is right, below where
    changes are predicted too large. Their bootstrap draws removed groups again, each with all its
    test points. by_group, by_test: Spearman's correlation of each removed group over the test
    points, and of each test point over the groups; the bootstrap draws groups, or test points.
    """

    pearson: Figure
    spearman: Figure
    slope: Figure
    by_group: Spread
    by_test: Spread
    n_groups: int


class Comparison:
    """Actual changes ``[n_groups, n_test]``, ranked once, with which many predictions are compared.

    Args:
        actual: what retraining did.
        seed: of the bootstrap, which is the same for all predictions.
    """

    def __init__(self, actual: np.ndarray, seed: int = 0) -> None:
        self.actual = np.asarray(actual, np.float64)
        n = len(self.actual)
        counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), N_RESAMPLES)
        self._counts = np.vstack([np.ones(n), counts])
        self._seed = seed
        self._ranks = _ranks(self.actual)
        self._sides = [_centred_ranks(a) for a in (self.actual, self.actual.T)]

    def of(self, predicted: np.ndarray) -> Agreement:
        """Agreement of predicted changes ``[n_groups, n_test]``; ranks are those of all groups."""
        p, a, counts = np.asarray(predicted, np.float64), self.actual, self._counts
        slopes = _ratio(counts @ (p * a).sum(1), counts @ np.square(p).sum(1))
        by_group, by_test = (
            _spread(_row_correlations(_centred_ranks(side), ranked), self._seed)
            for side, ranked in zip((p, p.T), self._sides, strict=True)
        )
        return Agreement(
            _figure(_pearson(p, a, counts)),
            _figure(_pearson(_ranks(p), self._ranks, counts)),
            _figure(slopes),
            by_group,
            by_test,
            len(a),
        )


def agreement(predicted: np.ndarray, actual: np.ndarray, seed: int = 0) -> Agreement:
    """Compare ``[n_groups, n_test]`` of predicted with actual changes, see ``Comparison``."""
    return Comparison(actual, seed).of(predicted)


def rank_correlations(predicted: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """Spearman's correlation of each row of ``[n, m]``, ``[n]``; nan where a row is constant."""
    return _row_correlations(_centred_ranks(predicted), _centred_ranks(actual))


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


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks among all values."""
    return rankdata(values).reshape(values.shape)


def _centred_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks within each row, less their mean."""
    ranks = rankdata(values, axis=1)
    return ranks - ranks.mean(1, keepdims=True)


def _row_correlations(p: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Pearson's correlation of rows whose mean is 0."""
    return _ratio((p * a).sum(1), np.sqrt(np.square(p).sum(1) * np.square(a).sum(1)))


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


def _spread(values: np.ndarray, seed: int) -> Spread:
    """The bootstrap draws the finite values again."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return Spread(Figure(np.nan, np.nan, np.nan), np.nan)
    drawn = np.random.default_rng(seed).choice(finite, (N_RESAMPLES, len(finite)))
    medians = np.concatenate([[np.median(finite)], np.median(drawn, 1)])
    return Spread(_figure(medians), float(np.percentile(finite, 5)))
