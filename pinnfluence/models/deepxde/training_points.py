"""The training points of a ``dde.Model``, and which of its equations act on which."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pinnfluence.errors import InputError
from pinnfluence.loss.points import PointSet
from pinnfluence.models.deepxde.conditions import PAIRED, is_point_set, kind_of
from pinnfluence.models.deepxde.model import dde
from pinnfluence.problem.equation import Equation
from pinnfluence.runtime.devices import as_array
from pinnfluence.runtime.warn_once import warn_once

N_SAMPLE = 3
"""Points at which a user's functions are tried."""


@dataclass(frozen=True)
class PointsOfTraining:
    """Points as a ``dde.Model`` was trained on them.

    all: all of them ``[n, n_inputs]``, on which the PDE acts. bcs: those of each condition, with
    repetitions. data: of DeepXDE.
    """

    all: np.ndarray
    bcs: tuple[np.ndarray, ...]
    data: Any

    def sets(self, equations: Sequence[Equation], columns: Sequence[np.ndarray | None]) -> PointSet:
        """The training points, and the rows, data and images of each equation.

        ``columns`` come behind the data, in DeepXDE's order of the points.
        """
        if not isinstance(self.data, dde.data.PDE):
            targets = as_array(self.data.train_y)
            rows = np.arange(len(self.all))
            data = _joined(targets.reshape(len(rows), -1), columns[0])
            return PointSet(self.all, (rows,), (data,), (None,))
        points, chosen, images = [self.all], [], []
        n_points = len(self.all)
        for condition, own in zip(self.data.bcs, self.bcs, strict=True):
            if len(own) == 0:
                raise InputError(f"condition {type(condition).__name__} acts on no training point")
            partner = None
            if kind_of(condition) in PAIRED:
                own, partner = np.split(own, 2)
            known = defaultdict(deque) if is_point_set(condition) else _rows_by_point(self.all)
            rows = np.array([known[p].popleft() if known[p] else -1 for p in map(bytes, own)])
            new = rows < 0
            rows[new] = n_points + np.arange(new.sum())
            points.append(own[new])
            n_points += int(new.sum())
            chosen.append(rows)
            images.append(partner)
        if self.data.pde is not None:
            chosen, images = [np.arange(len(self.all)), *chosen], [None, *images]
        return self._sorted(np.concatenate(points), chosen, images, equations, columns)

    def _sorted(
        self,
        x: np.ndarray,
        rows: Sequence[np.ndarray],
        images: Sequence[np.ndarray | None],
        equations: Sequence[Equation],
        columns: Sequence[np.ndarray | None],
    ) -> PointSet:
        """Rows in rising order, points without a loss term left out, data by the points' order."""
        used = np.unique(np.concatenate(rows))
        place = np.searchsorted(used, np.arange(len(x)))
        orders = [np.argsort(r) for r in rows]
        numbers = []
        offset = len(equations) - len(self.data.bcs)
        for n, (equation, r, order) in enumerate(zip(equations, rows, orders, strict=True)):
            given = None if equation.data is None else equation.data(x[r])
            condition = self.data.bcs[n - offset] if n >= offset else None
            if given is not None and is_point_set(condition):  # in its order, not by its place
                given = _in_order(given, condition, x.shape[1])
            given = _joined(given, columns[n])
            numbers.append(None if given is None else given[order])
        return PointSet(
            x[used],
            tuple(place[r[order]] for r, order in zip(rows, orders, strict=True)),
            tuple(numbers),
            tuple(None if im is None else im[o] for im, o in zip(images, orders, strict=True)),
        )


def training_points(model: Any) -> PointsOfTraining:
    """The points that the last step of training saw.

    Raises:
        InputError: they are no longer known.
    """
    data = model.data
    if not isinstance(data, dde.data.PDE):
        return PointsOfTraining(np.array(data.train_x) + 0.0, (), data)
    everywhere, of_bcs = data.train_x_all, data.train_x_bc
    n_bcs = sum(data.num_bcs)
    seen = model.train_state.X_train
    if seen is not None and not np.array_equal(seen, data.train_x):
        if data.pde is None or len(seen) != len(data.train_x) or not _is_resampled(model):
            raise InputError(
                f"the last training had {len(seen)} points, the data now hold {len(data.train_x)} "
                "or others; train again after points were added or resampled"
            )
        of_bcs, everywhere = seen[:n_bcs], seen[n_bcs:]
    if seen is None:
        warn_once(
            model.net,
            "the model was restored, not trained here: scores are right only if this script drew "
            "the points on which it was trained; compare its losses with those of the training"
            + _unknowns_of_restored(model),
        )
    if _is_resampled(model):
        warn_once(
            model.net,
            "the training points were resampled (PDEPointResampler): scores are those of the last "
            "points; earlier ones shaped the network, too, and have no scores",
        )
    ends = np.cumsum([0, *data.num_bcs])
    bcs = []
    for condition, start, end in zip(data.bcs, ends[:-1], ends[1:], strict=True):
        own = of_bcs[start:end]
        if getattr(condition, "batch_size", None) is not None:  # all its points, not one batch
            own = condition.points
        bcs.append(np.array(own) + 0.0)
    return PointsOfTraining(np.array(everywhere) + 0.0, tuple(bcs), data)  # -0 becomes 0


def _unknowns_of_restored(model: Any) -> str:
    """``dde.Model.save`` writes the network alone, so unknowns keep the values of the script."""
    unknowns = model.external_trainable_variables or ()
    values = [f"{value:g}" for unknown in unknowns for value in as_array(unknown).ravel()]
    if not values:
        return ""
    return (
        f". DeepXDE's files do not hold its external_trainable_variables, which are "
        f"{', '.join(values)} here: if these are not the trained values, the script has to set "
        "them (docs/your_model.md)"
    )


def _is_resampled(model: Any) -> bool:
    callbacks = [] if model.callbacks is None else model.callbacks.callbacks
    return any(isinstance(callback, dde.callbacks.PDEPointResampler) for callback in callbacks)


def _joined(data: np.ndarray | None, columns: np.ndarray | None) -> np.ndarray | None:
    if columns is None or data is None:
        return data if columns is None else columns
    return np.hstack([data, columns])


def _rows_by_point(x: np.ndarray) -> defaultdict[bytes, deque[int]]:
    """Rows of each point by its bytes: repeated points are distinguished by their order."""
    known: defaultdict[bytes, deque[int]] = defaultdict(deque)
    for row, point in enumerate(map(bytes, x)):
        known[point].append(row)
    return known


def _in_order(given: np.ndarray, condition: Any, n_inputs: int) -> np.ndarray:
    """Data of a point set's own points, which may coincide: the n-th point has the n-th value."""
    n = len(given)
    if given.shape[1] == 1:  # numbers of points
        return np.arange(n, dtype=float)[:, None]
    values = np.broadcast_to(as_array(condition.values), (n, given.shape[1] - n_inputs))
    return np.hstack([given[:, :n_inputs], values])
