"""How far parameters are from a minimum of the loss, with which influence functions begin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pinnfluence.loss.collocation import Collocation
from pinnfluence.loss.gradients import point_loss_gradients
from pinnfluence.loss.mean_squares import mean_squares

STATIONARITY_LIMIT = 1.0
"""||grad L|| over the median ||grad l_i|| above which a run warns: then the loss changes more on
the way to its minimum than by the removal of a point, which is what influence functions predict."""


def stationarity(
    collocation: Collocation, weights: Mapping[str, float], batch_size: int
) -> dict[str, Any]:
    """The loss terms and gradients of ``L = sum_i l_i``, ``l_i = sum_k w_k r_k(z_i)^2``.

    losses: mean squared residual by term. gradient_norm: ||grad L||. median_point_gradient_norm:
    of ||grad l_i||. ratio: of these two.
    """
    norms, total = point_loss_gradients(collocation, weights, batch_size)
    median, norm = float(norms.median()), float(total.norm())
    return {
        "losses": mean_squares(collocation, batch_size),
        "gradient_norm": norm,
        "median_point_gradient_norm": median,
        "ratio": norm / median if median else float("inf"),
    }
