"""What is left of the loss terms of a network, and where."""

from __future__ import annotations

import numpy as np
import torch

from pinnfluence.loss.collocation import Collocation
from pinnfluence.runtime.devices import float64_array, in_float64


def mean_squares(collocation: Collocation, batch_size: int) -> dict[str, float]:
    """Mean squared residual of each term over the points on which it acts; 0 without any."""
    sums = dict.fromkeys(collocation.pinn.terms, 0.0)
    for chunk in collocation.chunks(batch_size):
        with torch.no_grad():
            residuals = chunk.residuals(chunk.pinn.params)
        for name, r in residuals.items():
            sums[name] += float(in_float64(r).square().sum())
    rows = collocation.term_rows()
    return {name: total / max(1, len(rows[name])) for name, total in sums.items()}


def loss_density(collocation: Collocation, batch_size: int) -> np.ndarray:
    """``sum_k r_k(x)^2`` over the terms that act at each point, ``[n]``."""
    density, start = np.zeros(len(collocation.x)), 0
    for chunk in collocation.chunks(batch_size):
        with torch.no_grad():
            residuals = chunk.residuals(chunk.pinn.params)
        for name, rows in chunk.term_rows().items():
            density[start + rows] += float64_array(residuals[name]) ** 2
        start += len(chunk.x)
    return density
