"""Which loss term influence comes from, and how far the terms' influences cancel."""

from __future__ import annotations

import numpy as np

from pinnfluence.scores.indicators.case import Case


def loss_fraction(case: Case) -> dict[str, np.ndarray]:
    """Share of each loss term in the influence on each test point z, by term, ``[n_test]``::

        r_L(z) = sum_x |Inf^L(x, z)| / sum_L' sum_x |Inf^L'(x, z)|

    The shares add up to 1; NaN where no point has influence. Uniform: the term's share of all
    pairs of a training point and a term that acts on it.
    """
    sums = np.zeros((len(case.parts), len(case.test_x)))
    for rows, blocks in case.blocks():
        sums[:, rows] = [np.abs(block).sum(1) for block in blocks]
    return _shares(case, sums)


def loss_fraction_of_points(case: Case) -> dict[str, np.ndarray]:
    """The same for each training point x, by term, ``[n_train]``: both sums are over z."""
    sums = np.zeros((len(case.parts), len(case.train_x)))
    for _, blocks in case.blocks():
        sums += [np.abs(block).sum(0) for block in blocks]
    return _shares(case, sums)


def cancellation(case: Case) -> dict[str, np.ndarray]:
    """How far the loss terms of a training point cancel at a test point z, ``[n_test]``::

        kappa(z) = 1 - mean_x( |sum_L Inf^L(x, z)| / sum_L |Inf^L(x, z)| )

    0: they reinforce each other, 1: they cancel. The mean is over the training points that have
    influence on z. A point on which one term acts adds 0, so kappa is at most the share of points
    on which several act; compare it between networks with the same kinds of points. Uniform: 0.
    """
    found = np.full(len(case.test_x), np.nan)
    for rows, blocks in case.blocks():
        sizes = np.sum([np.abs(block) for block in blocks], axis=0)
        ratio = np.divide(
            np.abs(np.sum(blocks, axis=0)), sizes, out=np.zeros_like(sizes), where=sizes > 0
        )
        count = np.count_nonzero(sizes, axis=1)
        mean = np.divide(ratio.sum(1), count, out=np.full(len(count), np.nan), where=count > 0)
        found[rows] = 1 - mean
    return {"": found}


def _shares(case: Case, sums: np.ndarray) -> dict[str, np.ndarray]:
    total = sums.sum(0)
    total = np.where(total > 0, total, np.nan)
    return dict(zip(case.parts, sums / total, strict=True))
