"""Where influence comes from: along a coordinate, between regions, from near, from the point."""

from __future__ import annotations

import numpy as np

from pinnfluence.scores.indicators.case import Case
from pinnfluence.scores.matrix import BLOCK_ELEMENTS, ScoreMatrix
from pinnfluence.scores.shares import Below, shares

EPSILON = 1e-12
"""Added to a sum of ``|Inf|``, in the unit of the scores, so that no influence gives 0."""


def direction(case: Case) -> dict[str, np.ndarray]:
    """Share of the influence from training points beyond the test point z, ``[n_test]``::

        eta(z) = 1 - sum_{x: x_c <= z_c} |Inf(x, z)| / sum_x |Inf(x, z)|

    by coordinate c; eta of a network is the mean. For c = t: what comes from later. NaN at test
    points on which conditions act, which do not count, and where no point has influence. Uniform:
    the share of training points beyond z.
    """
    not_beyond = {  # <= is < of the next number
        name: Below(train, np.nextafter(test, np.array(np.inf, test.dtype)))
        for name, (train, test) in case.coordinates.items()
    }
    found = shares(case.whole, not_beyond)
    return {name: np.where(case.inside, 1 - share, np.nan) for name, share in found.items()}


def region_ratio(case: Case) -> dict[str, np.ndarray]:
    """Share of the influence on test points z of B that comes from training points of A::

        rho(A -> B) = mean_{z in B} sum_{x in A} |Inf(x, z)| / (sum_x |Inf(x, z)| + 1e-12)

    by ``"A -> B"``, ``[n_test]``, NaN outside B. The 1e-12 has the unit of the scores: rho depends
    on their scale where all influence is that small. Uniform: the share of A in the points.
    """
    total = np.zeros(len(case.test_x))
    sums = {name: np.zeros_like(total) for name in case.regions}
    for rows, (block,) in case.blocks(case.whole):
        sizes = np.abs(block)
        total[rows] = sizes.sum(1)
        for name, (origin, _) in case.regions.items():
            sums[name][rows] = sizes[:, origin].sum(1)
    return {
        name: np.where(case.regions[name][1], part / (total + EPSILON), np.nan)
        for name, part in sums.items()
    }


def proximity(case: Case) -> dict[str, np.ndarray]:
    """Mean nearness of the points that influence comes from, a single number ``[1]``::

        sum_{x, z} |Inf(x, z)| w(x, z) / sum_{x, z} |Inf(x, z)|,   w = exp(-|x^ - z^| / 2)

    x^ and z^ are coordinates divided by the lengths of the box around all points; the distance is
    not squared. Training and test points on which conditions act are left out.
    """
    both = np.concatenate([case.train_x, case.test_x]).astype(np.float64)
    low, length = both.min(0), np.ptp(both, axis=0)
    train, test = (
        (x.astype(np.float64) - low) / np.where(length > 0, length, 1)
        for x in (case.train_x, case.test_x)
    )
    acting = [case.acting[name] for name in case.conditions]
    free = ~np.any([np.zeros(len(train), bool), *acting], axis=0)
    near = total = 0.0
    for rows, (block,) in case.blocks(case.whole):
        kept = case.inside[rows]
        sizes = np.abs(block[kept][:, free])
        distance = np.linalg.norm(test[rows][kept][:, None] - train[free], axis=2)
        near += float((sizes * np.exp(-distance / 2)).sum())
        total += float(sizes.sum())
    return {"": np.array([near / total if total > 0 else np.nan])}


def self_influence(losses: ScoreMatrix) -> np.ndarray:
    """Influence ``Inf(l(z_i); z_i)`` of each training point on its own loss, ``[n_train]``.

    Large where the loss at a point would grow most without it.

    Args:
        losses: scores of the loss at the training points themselves, ``[n_train, n_train]``:
            ``influence.influence()["all"]``, whose loss has all weights 1, as recipe ``paper``. For
            the weights of the training see ``Influence.self_influence``.

    Raises:
        ValueError: test points that are not the training points.
    """
    n_test, n_train = losses.shape
    if n_test != n_train:
        raise ValueError(
            f"self-influence needs the training points as test points, found {n_test} test points "
            f"and {n_train} training points"
        )
    size = max(1, int(BLOCK_ELEMENTS**0.5))
    starts = range(0, n_train, size)
    blocks = (losses[start : start + size, start : start + size] for start in starts)
    return np.concatenate([np.diagonal(block).astype(np.float64) for block in blocks])
