"""Plain regression: functions and data sets, without an equation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .common import UNIT, dde, fnn, trained


def function() -> Any:
    data = dde.data.Function(UNIT, lambda x: np.sin(3 * x), 14, 20)
    return trained(data, fnn(1, 6, 6, 1))


def dataset() -> Any:
    x = np.random.default_rng(0).random((20, 2))
    y = np.hstack([x[:, :1] * x[:, 1:], np.cos(x[:, :1])])
    return trained(dde.data.DataSet(x[:15], y[:15], x[15:], y[15:]), fnn(2, 6, 6, 2))


def huber_dataset() -> Any:
    """Two outputs, compared by Huber's loss, whose corner is far from the data."""
    x = np.random.default_rng(0).random((20, 2))
    y = np.hstack([x[:, :1] * x[:, 1:], np.cos(x[:, :1])])
    data = dde.data.DataSet(x[:15], y[:15], x[15:], y[15:])
    return trained(data, fnn(2, 6, 6, 2), loss=torch.nn.HuberLoss(delta=20.0))


def relative_loss() -> Any:
    """Misfits relative to the size of all data: a change of one point changes all others."""
    data = dde.data.Function(UNIT, lambda x: 1 + x, 14, 20)
    relative = lambda target, value: (value - target).norm() / target.norm()  # noqa: E731
    return trained(data, fnn(1, 6, 6, 1), loss=relative)


def dataset_of_one_output() -> Any:
    x = np.random.default_rng(0).random((20, 1))
    y = np.exp(-x)
    data = dde.data.DataSet(x[:15], y[:15], x[15:], y[15:], standardize=True)
    return trained(data, fnn(1, 6, 6, 1), loss_weights=[3])


def online_function() -> Any:
    """New points in every step: there is no fixed set."""
    data = dde.data.Function(UNIT, np.sin, 14, 20, train_distribution="pseudo", online=True)
    return trained(data, fnn(1, 6, 6, 1))


MODELS = (
    *(function, dataset, huber_dataset, relative_loss, dataset_of_one_output, online_function),
)
