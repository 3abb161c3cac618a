"""How much each of many points determines of the parameters, from a fit to a few."""

from __future__ import annotations

import numpy as np

from pinnfluence.diagnosis.factor import SingularValues
from pinnfluence.diagnosis.point_loss import PointLoss

N_DRAWS = 8
"""Random vectors of parameters."""

PART = 1e-15
"""Damping, as a part of the largest eigenvalue: that at which most directions are determined."""


def leverage(inverse: SingularValues, loss: PointLoss) -> np.ndarray:
    """The leverage of points, roughly, ``[n]``, 0 to 1.

    The leverage of a row a is ``a^T (G + damping I)^-1 a``, G of the points that were fitted: the
    variance of ``a . v`` for normal v with this covariance, of which a few are drawn; a point has
    the sum over its rows. It is large where the fitted points leave something undetermined. With
    points drawn in proportion to it, a fit of n_params parameters to a few times as many residuals
    is about as good as one to all points.

    Args:
        inverse: of the loss of the points that were fitted. loss: of other points.

    Source: Cohen and Migliorati, Optimal weighted least-squares methods, SMAI J. Comput. Math. 3,
    2017.
    """
    s, found = loss.residuals(), np.zeros(len(loss.collocation))
    for v in inverse.draws(N_DRAWS, PART).T:
        np.add.at(found, loss.points, loss.slopes(v, s) ** 2 / N_DRAWS)
    return np.minimum(found, 1)
