"""Plain regression: functions and data sets, without an equation."""

from __future__ import annotations

from typing import Any

import numpy as np

from .common import UNIT, dde, fnn, trained


def function() -> Any:
    data = dde.data.Function(UNIT, lambda x: np.sin(3 * x), 14, 20)
    return trained(data, fnn(1, 6, 6, 1))


def dataset() -> Any:
    x = np.random.default_rng(0).random((20, 2))
    y = np.hstack([x[:, :1] * x[:, 1:], np.cos(x[:, :1])])
    return trained(dde.data.DataSet(x[:15], y[:15], x[15:], y[15:]), fnn(2, 6, 6, 2))


def dataset_of_one_output() -> Any:
    x = np.random.default_rng(0).random((20, 1))
    y = np.exp(-x)
    data = dde.data.DataSet(x[:15], y[:15], x[15:], y[15:], standardize=True)
    return trained(data, fnn(1, 6, 6, 1), loss_weights=[3])


def online_function() -> Any:
    """New points in every step: there is no fixed set."""
    data = dde.data.Function(UNIT, np.sin, 14, 20, train_distribution="pseudo", online=True)
    return trained(data, fnn(1, 6, 6, 1))


MODELS = (function, dataset, dataset_of_one_output, online_function)
