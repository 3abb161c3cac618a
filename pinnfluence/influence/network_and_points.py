"""The network and the training points that a user means."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from torch import Tensor

from pinnfluence.loss.pinn import Pinn
from pinnfluence.runtime.devices import as_array
from pinnfluence.storage.point_checks import check_points, repeats_warning


def network_and_points(
    model: Pinn | Any, train_x: np.ndarray | Tensor | None
) -> tuple[Pinn, np.ndarray]:
    """The network with its equations, and the training points that are meant."""
    pinn = model
    if not isinstance(model, Pinn):
        from pinnfluence.models.deepxde.reader import from_deepxde  # DeepXDE takes seconds

        pinn = from_deepxde(model)
    points = np.ascontiguousarray(as_array(pinn.training_points if train_x is None else train_x))
    check_points(points, len(pinn.inputs), "training")
    if pinn is not model and train_x is not None and (warning := repeats_warning(points)):
        warnings.warn(warning, stacklevel=3)
    return pinn, points
