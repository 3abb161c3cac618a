"""What distinguishes sets of equations at points, when equations are functions."""

from __future__ import annotations

import numpy as np
import torch

from pinnfluence.loss.differentiators.per_sample import flat_gradient, leaves
from pinnfluence.loss.pinn import Collocation
from pinnfluence.runtime.devices import tensor_like

BATCH_SIZE = 4096


def fingerprint(collocation: Collocation) -> list[np.ndarray]:
    """Points, rows, data, values of all residuals, and a derivative of them by theta.

    The text of a function says little of what it does, so equations are distinguished by the values
    of their residuals and by the gradient of their sum with random signs: ``u u_x`` with a detached
    u has the same values and another gradient.
    """
    points, theta = collocation.points, leaves(collocation.pinn.params)
    arrays = [points.x, *points.rows]
    arrays += [a for a in (*points.data, *points.images) if a is not None]
    total = collocation.pinn.like.new_zeros(collocation.pinn.n_params)
    signs = np.random.default_rng(0)
    for chunk in collocation.chunks(BATCH_SIZE):
        with torch.enable_grad():
            residuals = chunk.residuals(theta)
            combined = total.new_zeros(())
            for name, values in residuals.items():
                drawn = signs.choice([-1.0, 1.0], len(values))
                combined = combined + values @ tensor_like(drawn, values)
                arrays += [np.frombuffer(name.encode(), np.uint8), values.detach().cpu().numpy()]
        if combined.requires_grad:
            total += flat_gradient(combined, theta.values())
    return [*arrays, total.cpu().numpy()]
