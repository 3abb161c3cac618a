"""Equations that use arrays with a row for each training point, such as weights of the points."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pinnfluence.field.field import Field
from pinnfluence.models.deepxde.by_autograd import outputs_of
from pinnfluence.models.deepxde.functions import (
    Context,
    UserFunction,
    sample_field,
    stored,
)
from pinnfluence.models.deepxde.point_sets import nearest
from pinnfluence.models.own_network import Array, Substitute
from pinnfluence.problem.equation import PointFunction


def with_rows(
    function: UserFunction, data: Any, context: Context, numbers: PointFunction | None
) -> tuple[UserFunction, PointFunction | None]:
    """The PDE and its data, so that arrays by row are taken at the rows of the points.

    Such arrays are tensors or arrays with as many rows as DeepXDE has training points, which the
    function holds. The number of a point's row becomes the last column of the data. Points that
    are none of the training have the row of the nearest one.

    Args:
        function: the PDE. data: of DeepXDE, whose PDE it is. numbers: the data of its equation.
    """
    arrays = _arrays_by_row(function, context, numbers, len(data.train_x))
    if not arrays:
        return function, numbers
    points, first = data.train_x_all, len(data.train_x) - len(data.train_x_all)

    def with_row_numbers(x: np.ndarray) -> np.ndarray:
        given = np.zeros((len(x), 0)) if numbers is None else numbers(x)
        return np.hstack([given, first + nearest(points, stored(x))[1][:, None]])

    def at_rows(x: Tensor, y: Tensor, f: Field) -> Any:
        own, rows = copy.copy(f), f.data[:, -1].long()
        own.data = f.data[:, :-1]
        chosen = {id(a): torch.as_tensor(a).to(rows.device)[rows] for a in arrays}
        with Substitute(chosen):
            return function(x, y, own)

    return at_rows, with_row_numbers


def _arrays_by_row(
    function: UserFunction, context: Context, numbers: PointFunction | None, n_rows: int
) -> list[Array]:
    """The arrays by row that a function uses, found by calling it once at a few points."""
    given, found = sample_field(context, numbers), _Finder(n_rows, context)

    def noting(x: Tensor, y: Tensor, f: Field) -> Any:
        with found:
            return function(x, y, f)

    with contextlib.suppress(Exception):  # it will be called again, where errors are reported
        outputs_of(noting, given, context.own)
    return found.arrays


class _Finder(Substitute):
    """Notes arrays of ``n_rows`` rows that come from outside, and gives their first rows."""

    def __init__(self, n_rows: int, context: Context) -> None:
        super().__init__({})
        self.arrays: list[Array] = []
        self._n_rows, self._n_points = n_rows, len(context.sample)
        own = [*context.own.net.parameters(), *context.own.net.buffers(), *context.unknowns]
        self._inside: dict[int, Any] = {id(tensor): tensor for tensor in own}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*self._replaced(args), **self._replaced(kwargs or {}))
        for tensor in result if isinstance(result, (list, tuple)) else [result]:
            self._inside[id(tensor)] = tensor  # kept alive, so that the id stays its own
        return result

    def _of(self, array: Array) -> Array:
        is_by_row = array.ndim > 0 and len(array) == self._n_rows
        if not is_by_row or self._n_rows <= self._n_points or id(array) in self._inside:
            return array
        if all(array is not known for known in self.arrays):
            self.arrays.append(array)
        return array[: self._n_points]
