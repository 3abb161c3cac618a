"""References on grids: the values of a function at all points of a grid of space and time."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pinnfluence.problem.reference import Reference

Solution = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""From points ``[n, d]`` in float64 to fields by name, each ``[n]``."""


def on_grid(solution: Solution, axes: Sequence[np.ndarray]) -> Reference:
    """A solution at the points of a grid, weighted by the trapezoidal rule along each axis.

    Args:
        solution: its values are those at the points as stored, in float32.
        axes: rising coordinates along each axis, ends of the domain included; steps may differ.

    >>> on_grid(lambda x: {"u": x[:, 0]}, [np.linspace(0, 2, 3), np.linspace(0, 1, 2)]).area
    array([0.25, 0.25, 0.5 , 0.5 , 0.25, 0.25], dtype=float32)
    """
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes)).astype("f4")
    area = np.ones(1)
    for axis in axes:
        steps = np.diff(axis)
        area = np.outer(area, (np.append(steps, 0) + np.append(0, steps)) / 2).ravel()
    values = solution(points.astype(np.float64))
    stored = {name: np.asarray(value, np.float32) for name, value in values.items()}
    return Reference(points, stored, area.astype(np.float32))
