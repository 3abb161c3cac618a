"""Which loss weight to turn: how predictions move with the weights c_k of the loss terms.

To first order, more weight on a term moves the parameters by

    d theta / d log c_k = -(M + damping I)^-1 grad sum_{i in S_k} w_ik r_k(z_i)^2

and a quantity f by grad f of that: M is the Gauss-Newton matrix of the training's loss.
"""

from __future__ import annotations

import numpy as np

from pinnfluence.diagnosis.factor import Inverse
from pinnfluence.diagnosis.point_loss import PointLoss


def weight_steps(loss: PointLoss, inverse: Inverse, part: float) -> dict[str, np.ndarray]:
    """``d theta / d log c_k`` of each loss term, ``[n_params]`` by name.

    Args:
        loss: at the training points, with the training's weights.
        inverse: of its own curvature; part: the damping, see ``Inverse``.
    """
    s = loss.residuals()
    names = list(loss.slices)
    gradients = np.zeros((loss.collocation.pinn.n_params, len(names)))
    for rows, block in loss.blocks():
        term = next(n for n, name in enumerate(names) if rows.start < loss.slices[name].stop)
        gradients[:, term] += block.T @ s[rows]
    steps = -inverse.solve(gradients, part)
    return dict(zip(names, steps.T, strict=True))


def error_slopes(errors: dict[str, np.ndarray], changes: dict[str, np.ndarray]) -> dict[str, float]:
    """``d log |error| / d log c_k`` of each output, of its norm over some points.

    -1: ten percent more weight makes the error of this output smaller by ten percent.

    Args:
        errors: estimated ones, solution minus network, ``[n]`` by output.
        changes: of the outputs with log c_k, ``[n]`` by output.
    """
    return {
        name: float(-(error @ changes[name]) / max(error @ error, 1e-300))
        for name, error in errors.items()
    }
