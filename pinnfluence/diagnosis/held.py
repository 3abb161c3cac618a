"""Whether the loss holds a widened network where an envelope holds the network itself."""

from __future__ import annotations

import numpy as np
import torch

from pinnfluence.diagnosis.point_loss import PointLoss
from pinnfluence.field.network import MLP
from pinnfluence.runtime.devices import float64_array

ZERO = 1e-6
"""Part of an envelope's largest value that counts as zero."""


def is_held(loss: PointLoss) -> bool:
    """Whether conditions see every output of a ``widened`` network where its envelope is zero.

    There the network's own outputs are right whatever its parameters are, and the further neurons'
    must be held by the loss. An output whose envelope does not vanish at any of the points, and is
    no constant, counts as not held.
    """
    pinn = loss.collocation.pinn
    network = pinn.network
    if not isinstance(network, MLP) or network.envelope is None:
        return True
    with torch.no_grad():
        factors = float64_array(network.envelope(loss.collocation.tensors().x))
    s, n = loss.residuals(), len(loss.collocation)
    conditions = [
        loss.slices[name]
        for equation, names in zip(pinn.equations, pinn.names, strict=True)
        for name in names
        if equation.group != "pde"
    ]
    for number, factor in enumerate(factors[:n].T):
        if np.ptp(factor) == 0 and factor.any():
            continue
        zero = np.abs(factor) <= ZERO * np.abs(factor).max()
        weights = np.zeros(pinn.params["further.weight"].shape)
        weights[number] = np.random.default_rng(number).standard_normal(weights.shape[1])
        step = np.concatenate([np.zeros(pinn.n_params - weights.size), weights.ravel()])
        changed, seen = loss.after(step) != s, np.zeros(n, bool)
        for rows in conditions:
            seen[loss.points[rows][changed[rows]]] = True
        if not zero.any() or not seen[zero].all():
            return False
    return True
